/** What the page uses of partial-json. */

/** The value of JSON that may stop anywhere; throws when there is none. */
export function parse(text: string, allow?: number): any;

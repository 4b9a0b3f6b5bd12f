/** What the page uses of markdown-it. */

export interface Token {
  type: string;
  tag: string;
  /** 1 opens, -1 closes, 0 stands alone. */
  nesting: 1 | 0 | -1;
  level: number;
  /** First line, and the one after the last; null where it has none. */
  map: [number, number] | null;
  children: Token[] | null;
  content: string;
  info: string;
  /** Left out when it is drawn. */
  hidden: boolean;
  attrGet(name: string): string | null;
}

export default class MarkdownIt {
  constructor(options?: { html?: boolean; linkify?: boolean; typographer?: boolean });
  linkify: { set(options: { fuzzyLink?: boolean; fuzzyEmail?: boolean }): unknown };
  parse(text: string, env: object): Token[];
}

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

/** State of a rule for blocks; lines have a start, an indentation and an end in `src`. */
export interface BlockState {
  src: string;
  bMarks: number[];
  tShift: number[];
  eMarks: number[];
  line: number;
  push(type: string, tag: string, nesting: 1 | 0 | -1): Token;
}

export interface InlineState {
  src: string;
  pos: number;
  push(type: string, tag: string, nesting: 1 | 0 | -1): Token;
}

interface Ruler<Rule> {
  before(next: string, name: string, rule: Rule, options?: { alt: string[] }): void;
}

export default class MarkdownIt {
  constructor(options?: { html?: boolean; linkify?: boolean; typographer?: boolean });
  linkify: { set(options: { fuzzyLink?: boolean; fuzzyEmail?: boolean }): unknown };
  inline: { ruler: Ruler<(state: InlineState, silent: boolean) => boolean> };
  block: { ruler: Ruler<(state: BlockState, startLine: number, endLine: number, silent: boolean) => boolean> };
  parse(text: string, env: object): Token[];
}

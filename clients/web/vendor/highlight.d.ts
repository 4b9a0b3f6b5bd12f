/** What the page uses of highlight.js. */

export interface TokenNode {
  /** Kind of the piece, such as `title.function`; absent at the root. */
  scope?: string;
  children: (TokenNode | string)[];
}

declare const highlighter: {
  getLanguage(name: string): object | undefined;
  /** Splits code of a known language. */
  highlight(code: string, options: { language: string; ignoreIllegals: true }): { _emitter: { rootNode: TokenNode } };
};
export default highlighter;

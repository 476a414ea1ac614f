/** Rules by section, in the order of their document. */
export interface Section {
  title: string
  rules: string[]
}

export interface Survey {
  documents: { name: string; sections: Section[] }[]
  /** Files by the rules that they name. */
  tests: Map<string, Set<string>>
  sources: Map<string, Set<string>>
  /** Headings of docs/known-differences.md by the rules that their tables name. */
  differences: Map<string, string[]>
  /** Test names in which an id does not stand first. */
  titles: string[]
}

export function cited(text: string): string[]
export function rulesOf(markdown: string): Section[]
export function survey(): Survey
export function report(all: Survey, results: Map<string, string>): string

/**
 * Where a source file can be changed by one token so that it means something else: an operator, a number, a condition, a
 * call left out. Types, imports and texts are left alone. AssemblyScript is parsed as TypeScript, which it looks like.
 */

import ts from 'typescript'

const { SyntaxKind: K } = ts

/** What an operator becomes. */
const OPERATORS = new Map([
  [K.LessThanToken, '<='],
  [K.LessThanEqualsToken, '<'],
  [K.GreaterThanToken, '>='],
  [K.GreaterThanEqualsToken, '>'],
  [K.EqualsEqualsToken, '!='],
  [K.ExclamationEqualsToken, '=='],
  [K.EqualsEqualsEqualsToken, '!=='],
  [K.ExclamationEqualsEqualsToken, '==='],
  [K.PlusToken, '-'],
  [K.MinusToken, '+'],
  [K.AsteriskToken, '+'],
  [K.AmpersandToken, '|'],
  [K.BarToken, '&'],
  [K.LessThanLessThanToken, '>>'],
  [K.GreaterThanGreaterThanToken, '<<'],
  [K.GreaterThanGreaterThanGreaterThanToken, '<<'],
  [K.AmpersandAmpersandToken, '||'],
  [K.BarBarToken, '&&'],
  [K.PlusEqualsToken, '-='],
  [K.MinusEqualsToken, '+='],
  [K.BarEqualsToken, '&='],
  [K.AmpersandEqualsToken, '|='],
])

/** `+` that joins texts has no other operator. */
const joinsTexts = (node) =>
  [node.left, node.right].some((each) => ts.isStringLiteralLike(each) || ts.isTemplateExpression(each))

/** In a text that somebody reads, or in a type, nothing is a fault of behaviour. */
const skipped = (node) =>
  ts.isTypeNode(node) ||
  ts.isImportDeclaration(node) ||
  ts.isExportDeclaration(node) ||
  ts.isTemplateExpression(node) ||
  ts.isInterfaceDeclaration(node) ||
  ts.isTypeAliasDeclaration(node) ||
  ts.isDecorator(node)

/** What a node becomes; undefined: it stays. */
function change(node) {
  if (ts.isBinaryExpression(node)) {
    const to = OPERATORS.get(node.operatorToken.kind)
    return to && !joinsTexts(node) ? [node.operatorToken, to] : undefined
  }
  if (ts.isNumericLiteral(node)) return /^\d+$/.test(node.text) ? [node, String(Number(node.text) + 1)] : undefined
  if (node.kind === K.TrueKeyword) return [node, 'false']
  if (node.kind === K.FalseKeyword) return [node, 'true']
  if (ts.isPrefixUnaryExpression(node) && node.operator === K.ExclamationToken) return [node, node.operand.getText()]
  // A call for its effect alone.
  if (ts.isExpressionStatement(node) && isCall(node.expression)) return [node, ';']
  if (ts.isIfStatement(node)) return [node.expression, 'false']
  return undefined
}

const isCall = (node) =>
  ts.isCallExpression(node)
    ? node.expression.kind !== K.SuperKeyword
    : (ts.isYieldExpression(node) || ts.isAwaitExpression(node)) && !!node.expression && isCall(node.expression)

/**
 * All mutants of a file, in the order of the text.
 * @returns {{ file: string, from: number, to: number, was: string, is: string, line: number }[]}
 */
export function mutantsOf(file, text) {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ES2022, true)
  const found = []
  const visit = (node) => {
    if (skipped(node)) return
    const changed = change(node)
    if (changed) {
      const [place, is] = changed
      const from = place.getStart()
      const line = source.getLineAndCharacterOfPosition(from).line + 1
      found.push({ file, from, to: place.end, was: text.slice(from, place.end), is, line })
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

/** The text with one mutant in it. */
export const applied = (text, { from, to, is }) => `${text.slice(0, from)}${is}${text.slice(to)}`

/** One line for a person. */
export const tell = ({ file, line, was, is }) =>
  `${file}:${line}  ${was.replace(/\s+/g, ' ').slice(0, 60)}  →  ${is === ';' ? '(left out)' : is.slice(0, 40)}`

/**
 * What a class of the package declares can be read and called, not set: every public property is `readonly`, and has no
 * setter. Read from the declarations as they are published.
 */

import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { expect, it } from 'vitest'

const DIST = fileURLToPath(new URL('../../dist/', import.meta.url))
const ENTRIES = ['index', 'abi/index', 'machine/core', 'xenstore/index', 'dom0/index', 'node/index']

/** `Class.member` of everything that a user can set. */
function writable(entry: string): string[] {
  const file = `${DIST}${entry}.d.ts`
  const program = ts.createProgram([file], {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    types: ['node'],
  })
  const checker = program.getTypeChecker()
  const module = checker.getSymbolAtLocation(program.getSourceFile(file)!)!
  const found: string[] = []
  for (const exported of checker.getExportsOfModule(module)) {
    const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported
    for (const declaration of symbol.declarations ?? []) {
      if (!ts.isClassDeclaration(declaration)) continue
      for (const member of declaration.members) {
        const flags = ts.getCombinedModifierFlags(member)
        if (flags & ts.ModifierFlags.Private) continue
        const set = ts.isSetAccessor(member)
        const property = ts.isPropertyDeclaration(member) && !ts.isPrivateIdentifier(member.name)
        if (set || (property && !(flags & ts.ModifierFlags.Readonly)))
          found.push(`${symbol.name}.${member.name!.getText()}`)
      }
    }
  }
  return found
}

/** Set on purpose: what is written into a file of sysfs. */
const MEANT = ['StallInjector.vifname', 'StallInjector.eavesdrop']

it.each(ENTRIES)('%s: no class has a member that can be set', (entry) => {
  expect(writable(entry).filter((name) => !MEANT.includes(name))).toEqual([])
})

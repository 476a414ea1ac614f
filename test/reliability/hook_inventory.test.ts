/**
 * The tables of hooks are whole: every function that an option takes, or that an interface which users implement has, stands
 * for a row that tries its faults, or for a reason why there is none. A new option that is a function fails this test.
 */

import ts from 'typescript'
import { expect, it } from 'vitest'
import { DOM0_HOOKS } from './dom0_hooks.js'
import { COVERED } from './hooks.js'
import { STORE_HOOKS } from './store_hooks.js'

const ENTRIES = ['src/index.ts', 'src/xenstore/index.ts', 'src/dom0/index.ts', 'src/node/index.ts', 'src/x86/index.ts']

/** Interfaces beside options that users implement. */
const IMPLEMENTED = ['Transport', 'CpuSubscriber', 'XenbusDriver', 'NetSocket', 'NetListener', 'Network', 'RingPeer']

/** Hooks without a row, and why. */
const EXEMPT: Readonly<Record<string, string>> = {
  onError: 'it is where faults go; one that throws itself: reporting.test.ts',
  'ClientTransport.listen': 'called once, by the constructor: its error is the caller’s',
  'ClientTransport.close': 'called by the user’s own close',
  DomainControl: 'what it throws is the outcome of the toolstack’s operation that called it',
  'StreamOptions.onProgress': 'what it throws is the outcome of the stream',
  'TcpOptions.kick': 'the last thing in an event of Node’s, which reports what it throws',
  design: 'a user’s own design has a table of its own: xenwatch/own_design.test.ts',
  'HostOptions.drivers': 'called once, by the constructor: its error is the caller’s',
  'StoryOptions.drivers': 'called once, by the constructor: its error is the caller’s',
  'StoryOptions.random': 'it is the scheduler’s `choose`, which has a row',
  WasmMemory: 'a memory is the engine’s',
  AbortSignalLike: 'a signal is the platform’s',
  'Dom0KernelOptions.peer': 'called once, by the constructor: its error is the caller’s',
  'Dom0KernelOptions.onUnmapped': 'set by the library’s own host and by hostd, of which neither throws',
  'AttachOptions.post':
    'what it throws is reported, thread by thread: test/threads/lifecycle.test.ts ends threads whose worker is gone',
  'RestoreOptions.socket': 'called within the user’s own call, whose error it is',
  'SaveOptions.socketFd': 'called within the user’s own call, whose error it is',
  'TestTraceOptions.print': 'of a test that has failed already',
  'WaitOptions.on': 'asked by the thread that is about to sleep, whose error it is',
  'NetListener.onConnection': 'set by the library',
  'NetSocket.onReadable': 'set by the library',
  'NetSocket.onWritable': 'set by the library',
  'DumpOptions.pause': 'called within the user’s own dump, whose error it is',
  'TcpOptions.allow': 'called by connect and bind of its network, which have rows',
  'XenbusDriver.probe': 'throwing is how it refuses a device (XW-acc-28)',
}

function program(): { checker: ts.TypeChecker; exported: Map<string, ts.Symbol> } {
  const made = ts.createProgram(ENTRIES, {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    strict: true,
    skipLibCheck: true,
    noEmit: true,
    types: ['node'],
  })
  const checker = made.getTypeChecker()
  const exported = new Map<string, ts.Symbol>()
  for (const entry of ENTRIES)
    for (const each of checker.getExportsOfModule(checker.getSymbolAtLocation(made.getSourceFile(entry)!)!)) {
      const symbol = each.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(each) : each
      exported.set(each.name, symbol)
    }
  return { checker, exported }
}

/** Every hook as `Interface.member`, by the interface that declares it. */
function hooks(): Set<string> {
  const { checker, exported } = program()
  const found = new Set<string>()
  const seen = new Set<ts.Type>()
  const walk = (type: ts.Type): void => {
    for (const part of type.isUnion() ? type.types : [type]) {
      if (seen.has(part)) continue
      seen.add(part)
      for (const property of checker.getPropertiesOfType(part)) {
        const declaration = property.declarations?.[0]
        if (!declaration || !ts.isInterfaceDeclaration(declaration.parent)) continue
        if (declaration.getSourceFile().fileName.includes('node_modules')) continue
        member(declaration.parent.name.text, property, checker.getTypeOfSymbol(property))
      }
    }
  }
  const member = (owner: string, property: ts.Symbol, type: ts.Type): void => {
    const bare = checker.getNonNullableType(type)
    const signatures = (bare.isUnion() ? bare.types : [bare]).flatMap((each) => each.getCallSignatures())
    if (!signatures.length) {
      // A host or a kernel that is passed in is a class, or what the library itself makes.
      if (bare.symbol?.declarations?.some(ts.isInterfaceDeclaration) && bare.symbol.name !== 'GuestHost') walk(bare)
      return
    }
    found.add(`${owner}.${property.name}`)
  }
  for (const [name, symbol] of exported)
    if (name.endsWith('Options') || IMPLEMENTED.includes(name)) walk(checker.getDeclaredTypeOfSymbol(symbol))
  return found
}

it('every option that is a function, and every function that users implement, has a row or a reason', () => {
  const rows = [...Object.values(STORE_HOOKS), ...Object.values(DOM0_HOOKS)].flatMap((row) => row.hooks)
  const known = new Set([...rows, ...COVERED, ...Object.keys(EXEMPT)])
  const missing = [...hooks()].filter((hook) => {
    const [owner, name] = hook.split('.') as [string, string]
    return !known.has(hook) && !known.has(owner) && !known.has(name)
  })
  expect(missing).toEqual([])
}, 120_000)

/** Types of machine.mjs, for tests. */
import type { TraceSink } from '../../src/index.js'
import type { V86Guest, V86Host, V86Snapshot } from '../../src/x86/index.js'

export interface LinuxOptions {
  abi?: '2' | 'fifo'
  say?: (what: string) => void
  onText?: (char: string) => void
  trace?: TraceSink
  commandLine?: string
}
export class Linux {
  readonly host: V86Host
  readonly guest: V86Guest
  output: string
  hvc0: string
  until(text: string, seconds: number): Promise<void>
  run(command: string, seconds?: number): Promise<{ text: string; status: number }>
}
export function bootLinux(options?: LinuxOptions): Promise<Linux>
export function restoreLinux(snapshot: V86Snapshot, options?: LinuxOptions): Promise<Linux>

/**
 * What a C compiler says about Xen's public headers: a program with offsetof and sizeof for every struct below, and with
 * every constant of the interfaces that the library speaks, compiled for 64 and 32 bits, prints it as JSON.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** One struct: `fields` are [offset, size] by member designator. */
export interface Layout {
  size: number
  align: number
  fields: Record<string, [offset: number, size: number]>
}

/** One width. */
export interface Table {
  structs: Record<string, Layout>
  constants: Record<string, number>
  /** Error numbers by name, without XEN_. */
  errno: Record<string, number>
}

/** Both widths. */
export interface Tables {
  x86_64: Table
  x86_32: Table
}

const HEADERS = ['event_channel', 'sched', 'vcpu', 'physdev', 'version', 'hvm/hvm_op', 'hvm/params']

/** Structs and their members, all that Xen has. `xen_wc_sec_hi` is the headers' own name for a member that moved. */
const STRUCTS: Record<string, string> = {
  evtchn_alloc_unbound: 'dom remote_dom port',
  evtchn_bind_interdomain: 'remote_dom remote_port local_port',
  evtchn_bind_virq: 'virq vcpu port',
  evtchn_bind_pirq: 'pirq flags port',
  evtchn_bind_ipi: 'vcpu port',
  evtchn_close: 'port',
  evtchn_send: 'port',
  evtchn_status: 'dom port status vcpu u u.unbound.dom u.interdomain.dom u.interdomain.port u.pirq u.virq',
  evtchn_bind_vcpu: 'port vcpu',
  evtchn_unmask: 'port',
  evtchn_reset: 'dom',
  evtchn_init_control: 'control_gfn offset vcpu link_bits _pad',
  evtchn_expand_array: 'array_gfn',
  evtchn_set_priority: 'port priority',
  evtchn_op: 'cmd u u.bind_ipi.vcpu u.bind_ipi.port',
  evtchn_fifo_control_block: 'ready _rsvd head',
  vcpu_time_info: 'version pad0 tsc_timestamp system_time tsc_to_system_mul tsc_shift flags pad1',
  arch_vcpu_info: 'cr2 pad',
  vcpu_info: 'evtchn_upcall_pending evtchn_upcall_mask evtchn_pending_sel arch time',
  arch_shared_info: 'max_pfn pfn_to_mfn_frame_list_list nmi_reason p2m_cr3 p2m_vaddr p2m_generation',
  shared_info: 'vcpu_info evtchn_pending evtchn_mask wc_version wc_sec wc_nsec xen_wc_sec_hi arch',
  sched_poll: 'ports nr_ports timeout',
  sched_shutdown: 'reason',
  vcpu_register_vcpu_info: 'mfn offset rsvd',
  vcpu_runstate_info: 'state state_entry_time time',
  vcpu_set_singleshot_timer: 'timeout_abs_ns flags',
  xen_hvm_param: 'domid pad index value',
  xen_hvm_evtchn_upcall_vector: 'vcpu vector',
  physdev_eoi: 'irq',
  physdev_irq_status_query: 'irq flags',
  physdev_pirq_eoi_gmfn: 'gmfn',
  multicall_entry: 'op result args',
  xen_feature_info: 'submap_idx submap',
}

/** Macros to record: the numbers of the interfaces. Capital letters behind a prefix are mostly limits that grow. */
const CONSTANTS = new RegExp(
  `^(${[
    '__HYPERVISOR_[a-z]\\w*',
    'EVTCHNOP_\\w+',
    'EVTCHNSTAT_\\w+',
    'EVTCHN_2L_NR_CHANNELS',
    'EVTCHN_FIFO_\\w+',
    'BIND_PIRQ__WILL_SHARE',
    'VIRQ_\\w+',
    'NR_VIRQS',
    'DOMID_\\w+',
    'SCHEDOP_\\w+',
    'SHUTDOWN_[a-z]\\w*',
    'VCPUOP_\\w+',
    'PHYSDEVOP_[a-z]\\w*',
    'XENIRQSTAT_\\w+',
    'HVMOP_(?!altp2m)[a-z]\\w*',
    'HVM_PARAM_CALLBACK_(IRQ|TYPE_GSI|TYPE_PCI_INTX|TYPE_VECTOR)',
    'XENVER_\\w+',
    'XENFEAT_[a-z]\\w*',
    'XEN_LEGACY_MAX_VCPUS',
  ].join('|')})$`,
)

/** Xen keeps EVTCHNOP_reset_cont and ERESTART to itself: these two headers are read as Xen reads them, the rest is not. */
const PROLOGUE = `
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__
#include <xen/xen.h>
#define __XEN__
#include <xen/event_channel.h>
#undef __XEN__
${HEADERS.map((name) => `#include <xen/${name}.h>`).join('\n')}
`

const ERRNO = `
#define __XEN__
#define XEN_ERRNO(name, value) printf("%s\\"%s\\":%d", comma++ ? "," : "", #name, value);
#include <xen/errno.h>
#undef __XEN__
`

function program(constants: readonly string[]): string {
  const structs = Object.entries(STRUCTS).map(([name, members]) => {
    const fields = members
      .split(' ')
      .map(
        (member) =>
          `printf("%s\\"${member}\\":[%zu,%zu]", comma++ ? "," : "", offsetof(struct ${name}, ${member}), ` +
          `sizeof(((struct ${name} *)0)->${member}));`,
      )
    return `
  printf("%s\\"${name}\\":{\\"size\\":%zu,\\"align\\":%zu,\\"fields\\":{", more++ ? "," : "",
         sizeof(struct ${name}), _Alignof(struct ${name}));
  comma = 0;
  ${fields.join('\n  ')}
  printf("}}");`
  })
  const numbers = constants.map((name) => `printf("%s\\"${name}\\":%lld", comma++ ? "," : "", (long long)(${name}));`)
  return `${PROLOGUE}
int main(void) {
  int comma = 0, more = 0;
  printf("{\\"structs\\":{");
  ${structs.join('\n')}
  printf("},\\"constants\\":{");
  comma = 0;
  ${numbers.join('\n  ')}
  printf("},\\"errno\\":{");
  comma = 0;
  ${ERRNO}
  printf("}}\\n");
  return 0;
}
`
}

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 2 ** 26 })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr}`)
  return stdout
}

const PROBE = '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n'

/** Does this kernel run 32-bit programs itself? Some are built without. */
function runs32(): boolean {
  const dir = mkdtempSync(join(tmpdir(), 'evtchn-32-'))
  try {
    const [source, binary] = [join(dir, 'probe.c'), join(dir, 'probe')]
    writeFileSync(source, PROBE)
    return spawnSync('gcc', ['-m32', source, '-o', binary]).status === 0 && spawnSync(binary).status === 0
  } finally {
    rmSync(dir, { recursive: true })
  }
}
let natively: boolean | undefined

/** The command line that runs a program made for `flag`: i386 ones in user-mode emulation where the kernel refuses them. */
export function runner(flag: '-m64' | '-m32', binary: string): [command: string, ...args: string[]] {
  if (flag === '-m64') return [binary]
  natively ??= runs32()
  return natively ? [binary] : ['qemu-i386', binary]
}

/** What is wanting for a measurement, as package names with what failed; empty if nothing is. */
export function missingTools(): string[] {
  const missing: string[] = []
  if (!existsSync('/usr/include/xen/xen.h')) missing.push('/usr/include/xen/xen.h (libxen-dev)')
  const dir = mkdtempSync(join(tmpdir(), 'evtchn-tools-'))
  try {
    const source = join(dir, 'probe.c')
    writeFileSync(source, PROBE)
    for (const [flag, packages] of [
      ['-m64', 'gcc, libc6-dev'],
      ['-m32', 'gcc-multilib, libc6-dev-i386; qemu-user where the kernel runs no 32-bit programs'],
    ] as const) {
      const probe = join(dir, `probe${flag}`)
      const made = spawnSync('gcc', [flag, source, '-o', probe]).status === 0
      const [command, ...args] = runner(flag, probe)
      if (!made || spawnSync(command, args).status !== 0) missing.push(`gcc ${flag} (${packages})`)
    }
  } finally {
    rmSync(dir, { recursive: true })
  }
  return missing
}

/** Compiles and runs the program for both widths. */
export function measure(): Tables {
  const dir = mkdtempSync(join(tmpdir(), 'evtchn-layouts-'))
  try {
    const width = (flag: '-m64' | '-m32'): Table => {
      const source = join(dir, 'layouts.c')
      writeFileSync(source, PROLOGUE)
      const constants = run('gcc', [flag, '-dM', '-E', source])
        .split('\n')
        .map((line) => /^#define (\w+) /.exec(line)?.[1] ?? '')
        .filter((name) => CONSTANTS.test(name))
        .sort()
      writeFileSync(source, program(constants))
      const binary = join(dir, `layouts${flag}`)
      run('gcc', [flag, '-std=gnu11', '-Wall', '-Wextra', '-Werror', source, '-o', binary])
      const [command, ...args] = runner(flag, binary)
      return JSON.parse(run(command, args)) as Table
    }
    return { x86_64: width('-m64'), x86_32: width('-m32') }
  } finally {
    rmSync(dir, { recursive: true })
  }
}

/** JSON with a line per member and per constant, as the formatter leaves it. */
export function toJson(value: unknown, indent = ''): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.join(', ')}]`
  const inner = `${indent}  `
  const rows = Object.entries(value).map(([key, entry]) => `${inner}${JSON.stringify(key)}: ${toJson(entry, inner)}`)
  return `{\n${rows.join(',\n')}\n${indent}}`
}

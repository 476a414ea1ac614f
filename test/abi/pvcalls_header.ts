/**
 * What a C compiler makes of xen/io/pvcalls.h and ring.h: layouts, numbers, and a frontend and a backend of the command
 * ring built with Xen's own macros, which exchange pages with the library's.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { missingTools, runner } from './headers.js'

const HEADER = '/usr/include/xen/io/pvcalls.h'

/** Members whose offsets are recorded. */
const REQUEST = [
  ...['req_id', 'cmd', 'u.socket.id', 'u.socket.domain', 'u.socket.type', 'u.socket.protocol', 'u.connect.id'],
  ...['u.connect.addr', 'u.connect.len', 'u.connect.flags', 'u.connect.ref', 'u.connect.evtchn', 'u.release.id'],
  ...['u.release.reuse', 'u.bind.id', 'u.bind.addr', 'u.bind.len', 'u.listen.id', 'u.listen.backlog', 'u.accept.id'],
  ...['u.accept.id_new', 'u.accept.ref', 'u.accept.evtchn', 'u.poll.id'],
]
const RESPONSE = ['req_id', 'cmd', 'ret', 'u.socket.id', 'u.accept.id']
const INTF = ['in_cons', 'in_prod', 'in_error', 'out_cons', 'out_prod', 'out_error', 'ring_order', 'ref']
const SRING = ['req_prod', 'req_event', 'rsp_prod', 'rsp_event', 'ring']
const COMMANDS = ['SOCKET', 'CONNECT', 'RELEASE', 'BIND', 'LISTEN', 'ACCEPT', 'POLL']

/** Indexes for which the header's own function is asked how much is queued. */
export const QUEUED: readonly (readonly [prod: number, cons: number, size: number])[] = [
  [0, 0, 4096],
  [1, 0, 4096],
  [4096, 0, 4096],
  [4097, 1, 4096],
  [5000, 4000, 4096],
  [0, 0xffffffff, 4096],
  [100, 0xfffff0c0, 8192],
  [0x80000000, 0x7fffffff, 1048576],
  [0x00080000, 0, 1048576],
]

const offsets = (struct: string, members: readonly string[]): string =>
  members.map((name) => `  put("${name}", offsetof(struct ${struct}, ${name}));`).join('\n')

const SOURCE = `
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__
#include <xen/xen.h>
#define xen_mb() __sync_synchronize()
#define xen_rmb() __sync_synchronize()
#define xen_wmb() __sync_synchronize()
#include <${HEADER.slice('/usr/include/'.length)}>

static int comma;
static void put(const char *name, unsigned long value) { printf("%s\\"%s\\":%lu", comma++ ? "," : "", name, value); }
static void begin(const char *name) { printf("%s\\"%s\\":{", comma++ ? "," : "", name); comma = 0; }
static void end(void) { printf("}"); comma = 1; }
static unsigned char page[4096] __attribute__((aligned(4096)));
static void hex(const char *name) {
  printf("%s\\"%s\\":\\"", comma++ ? "," : "", name);
  for (unsigned i = 0; i < sizeof(page); i++) printf("%02x", page[i]);
  printf("\\"");
}

static int layouts(void) {
  begin("request");
${offsets('xen_pvcalls_request', REQUEST)}
  put("sizeof", sizeof(struct xen_pvcalls_request)); end();
  begin("response");
${offsets('xen_pvcalls_response', RESPONSE)}
  put("sizeof", sizeof(struct xen_pvcalls_response)); end();
  begin("intf");
${offsets('pvcalls_data_intf', INTF)}
  end();
  begin("sring");
${offsets('xen_pvcalls_sring', SRING)}
  put("slots", __CONST_RING_SIZE(xen_pvcalls, 4096));
  put("slot", sizeof(union xen_pvcalls_sring_entry)); end();
  begin("commands");
${COMMANDS.map((name) => `  put("${name}", PVCALLS_${name});`).join('\n')}
  end();
  printf(",\\"queued\\":[");
  comma = 0;
${QUEUED.map(([prod, cons, size]) => `  printf("%s%u", comma++ ? "," : "", pvcalls_queued(${prod}u, ${cons}u, ${size}u));`).join('\n')}
  printf("]");
  return 0;
}

/* A frontend: three requests, pushed one by one; then, if a page comes in, the responses on it. */
static int front(int again) {
  xen_pvcalls_front_ring_t ring;
  struct xen_pvcalls_sring *sring = (void *)page;
  int notify[3];
  if (!again) SHARED_RING_INIT(sring);
  FRONT_RING_INIT(&ring, sring, 4096);
  if (again) {
    ring.req_prod_pvt = sring->req_prod;
    begin("responses");
    for (; ring.rsp_cons != sring->rsp_prod; ring.rsp_cons++) {
      struct xen_pvcalls_response *rsp = RING_GET_RESPONSE(&ring, ring.rsp_cons);
      char name[32];
      snprintf(name, sizeof(name), "%u/%u/%llu", rsp->req_id, rsp->cmd, (unsigned long long)rsp->u.socket.id);
      printf("%s\\"%s\\":%d", comma++ ? "," : "", name, rsp->ret);
    }
    end();
    return 0;
  }
  for (unsigned i = 0; i < 3; i++) {
    struct xen_pvcalls_request *req = RING_GET_REQUEST(&ring, ring.req_prod_pvt++);
    req->req_id = 100 + i;
    req->cmd = i == 0 ? PVCALLS_SOCKET : i == 1 ? PVCALLS_CONNECT : PVCALLS_ACCEPT;
    req->u.socket.id = 0x1122334455667700ULL + i;
    if (i == 0) { req->u.socket.domain = 2; req->u.socket.type = 1; req->u.socket.protocol = 0; }
    if (i == 1) {
      req->u.connect.addr[0] = 2; req->u.connect.addr[3] = 80; req->u.connect.addr[4] = 127; req->u.connect.addr[7] = 1;
      req->u.connect.len = 16; req->u.connect.flags = 3; req->u.connect.ref = 77; req->u.connect.evtchn = 88;
    }
    if (i == 2) { req->u.accept.id_new = 9; req->u.accept.ref = 78; req->u.accept.evtchn = 89; }
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&ring, notify[i]);
  }
  hex("page");
  printf(",\\"notify\\":[%d,%d,%d]", notify[0], notify[1], notify[2]);
  return 0;
}

/* A backend: takes what is on the page that came in, and answers each with minus its number. */
static int back(void) {
  xen_pvcalls_back_ring_t ring;
  int notify, more;
  BACK_RING_INIT(&ring, (struct xen_pvcalls_sring *)page, 4096);
  begin("requests");
  do {
    while (RING_HAS_UNCONSUMED_REQUESTS(&ring)) {
      struct xen_pvcalls_request req = *RING_GET_REQUEST(&ring, ring.req_cons++);
      struct xen_pvcalls_response *rsp = RING_GET_RESPONSE(&ring, ring.rsp_prod_pvt++);
      char name[32];
      snprintf(name, sizeof(name), "%u/%u/%llu", req.req_id, req.cmd, (unsigned long long)req.u.socket.id);
      put(name, req.cmd == PVCALLS_BIND ? req.u.bind.len : req.cmd == PVCALLS_LISTEN ? req.u.listen.backlog : 0);
      memset(rsp, 0, sizeof(*rsp));
      rsp->req_id = req.req_id; rsp->cmd = req.cmd; rsp->ret = -(int)req.req_id; rsp->u.socket.id = req.u.socket.id;
    }
    RING_FINAL_CHECK_FOR_REQUESTS(&ring, more);
  } while (more);
  end();
  RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&ring, notify);
  hex("page");
  printf(",\\"notify\\":[%d]", notify);
  return 0;
}

int main(int argc, char **argv) {
  if (argc > 2 && fread(page, 1, sizeof(page), stdin) != sizeof(page)) return 1;
  printf("{");
  switch (argc > 1 ? argv[1][0] : 'l') {
    case 'f': front(argc > 2); break;
    case 'b': back(); break;
    default: layouts();
  }
  printf("}\\n");
  return 0;
}
`

/** What the header says. */
export interface PvcallsHeader {
  readonly request: Readonly<Record<string, number>>
  readonly response: Readonly<Record<string, number>>
  readonly intf: Readonly<Record<string, number>>
  readonly sring: Readonly<Record<string, number>>
  readonly commands: Readonly<Record<string, number>>
  readonly queued: readonly number[]
}

/** Why the program cannot be made; empty if it can. */
export function missing(): string[] {
  return existsSync(HEADER) ? missingTools() : [`${HEADER} (libxen-dev)`]
}

/** The program for one width. */
export class HeaderProgram {
  readonly #dir = mkdtempSync(join(tmpdir(), 'evtchn-pvcalls-'))
  readonly #binary = join(this.#dir, 'pvcalls')
  readonly #runner: [command: string, ...args: string[]]

  constructor(flag: '-m64' | '-m32') {
    const source = join(this.#dir, 'pvcalls.c')
    writeFileSync(source, SOURCE)
    const { status, stderr } = spawnSync('gcc', [flag, '-std=gnu11', source, '-o', this.#binary], { encoding: 'utf8' })
    if (status !== 0) throw new Error(stderr)
    this.#runner = runner(flag, this.#binary)
  }

  /** Runs `layouts`, `front` or `back`, with a page or without. */
  run<T>(what: 'layouts' | 'front' | 'back', page?: Uint8Array): T {
    const [command, ...prefix] = this.#runner
    const args = [...prefix, what, ...(page ? ['page'] : [])]
    const { status, stdout } = spawnSync(command, args, page ? { input: page } : {})
    if (status !== 0) throw new Error(`${what} ended with ${status}`)
    return JSON.parse(String(stdout)) as T
  }

  remove(): void {
    rmSync(this.#dir, { recursive: true })
  }
}

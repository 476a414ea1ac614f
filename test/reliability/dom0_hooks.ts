/** Every hook of dom0 and its guests, each with what makes it run. */

import {
  done,
  guestConfig,
  type Host,
  type HostOptions,
  LocalNetwork,
  type NetListener,
  type NetSocket,
  type Network,
  nicSpec,
  type SchedulerOptions,
  type Task,
  Toolstack,
  XenbusWatch,
  type XenbusWatchOptions,
} from '../../src/dom0/index.js'
import { InProcessTransport } from '../../src/xenstore/index.js'
import type { Act } from './faults.js'

export interface Dom0Row {
  /** Members of options and interfaces that the row stands for. */
  readonly hooks: readonly string[]
  options?(act: Act): HostOptions
  run(host: Host, act: Act): void
}

const scheduler = (name: keyof SchedulerOptions, value: (act: Act) => unknown, run?: Dom0Row['run']): Dom0Row => ({
  hooks: [`SchedulerOptions.${name}`],
  options: (act) => ({ scheduler: { [name]: value(act) } }),
  run: run ?? ((host) => aDomain(host)),
})

/** A subscriber of the kernel's, one of whose functions is the hook; two changes, and it goes. */
const watch = (name: keyof XenbusWatchOptions, value: (act: Act) => unknown): Dom0Row => ({
  hooks: [`XenbusWatchOptions.${name}`],
  run(host, act) {
    const options = { node: '/my', callback: () => done(undefined), [name]: value(act) } as XenbusWatchOptions
    const mine = new XenbusWatch(options)
    host.complete('x', host.xenbus.register(mine, 'domain'))
    for (const value of [1, 2]) host.complete('x', host.toolstack.xs.write('/my/a', value))
    host.pass(1)
    host.complete('x', host.xenbus.unregister(mine))
  },
})

const observer = (name: string, run?: Dom0Row['run']): Dom0Row => ({
  hooks: [`DeliveryObserver.${name}`],
  options: (act) => ({ observer: { [name]: act } }),
  run: run ?? ((host) => aDomain(host)),
})

/** A domain comes, gets an interface, and goes. */
function aDomain(host: Host): void {
  const { domid } = host.complete('xl', host.toolstack.create(guestConfig('passing')))
  host.complete('xl', host.toolstack.attach(domid, nicSpec(domid, 1, {})))
  host.complete('xl', host.toolstack.destroy(domid))
  host.pass(1)
}

/** A LocalNetwork with one function of it, of its listeners or its sockets replaced. */
function networkWith(change: { network?: string; listener?: string; socket?: string }, act: Act): Network {
  const inner = new LocalNetwork({})
  const wrap = <T extends object>(target: T, name: string | undefined): T =>
    new Proxy(target, {
      get(_, key) {
        if (key === name) act()
        const value = Reflect.get(target, key, target)
        if (typeof value !== 'function') return value
        return (...args: unknown[]) => {
          const made = value.apply(target, args.map(sealedDone))
          return key === 'accept' && made ? wrap(made as object, change.socket) : made
        }
      },
      set: (_, key, value) => Reflect.set(target, key, value, target),
    })
  // `connect` passes its socket to a callback.
  const sealedDone = (arg: unknown) =>
    typeof arg !== 'function'
      ? arg
      : (result: NetSocket | number) => arg(typeof result === 'object' ? wrap(result, change.socket) : result)
  const network: Network = {
    connect: (...args) => inner.connect(args[0], sealedDone(args[1]) as (typeof args)[1]),
    bind: (address) => {
      const made = inner.bind(address)
      return typeof made === 'number' ? made : wrap<NetListener>(made, change.listener)
    },
  }
  return wrap(network, change.network)
}

const network = (hook: string, change: Parameters<typeof networkWith>[0]): Dom0Row => ({
  hooks: [hook],
  options: (act) => ({ guest: { frames: 256 }, pvcalls: { network: networkWith(change, act) } }),
  run(host) {
    const { domid } = host.complete('xl', host.toolstack.create({ name: 'sockets', pvcalls: true }))
    host.pass(1)
    const guest = host.guest(domid)
    const address = { ip: '10.0.0.1', port: 80 }
    const attempt = function* (task: Task<unknown>): Task {
      try {
        yield* task
      } catch {
        // A call that failed is the program's to know.
      }
    }
    guest.kernel.process('server', () =>
      attempt(
        (function* () {
          const listener = yield* guest.pvcalls.listen(address)
          const socket = yield* listener.accept({ ringOrder: 1 })
          yield* socket.receive()
          yield* socket.close()
          yield* listener.close()
        })(),
      ),
    )
    host.pass(1)
    guest.kernel.process('client', () =>
      attempt(
        (function* () {
          const socket = yield* guest.pvcalls.connect(address, { ringOrder: 1 })
          yield* socket.send(new Uint8Array(100))
          yield* socket.close()
        })(),
      ),
    )
    host.pass(5)
    host.complete('xl', host.toolstack.destroy(domid))
  },
})

export const DOM0_HOOKS: Readonly<Record<string, Dom0Row>> = {
  'callback of a watch': watch(
    'callback',
    (act) =>
      // biome-ignore lint/correctness/useYield: it ends at once
      function* () {
        act()
      },
  ),
  willHandle: watch('willHandle', (act) => () => {
    act()
    return true
  }),
  getDomid: watch('getDomid', (act) => () => {
    act()
    return 1
  }),
  getOwner: watch('getOwner', (act) => () => {
    act()
    return 0
  }),
  'observer.arrived': observer('arrived'),
  'observer.started': observer('started'),
  'observer.finished': observer('finished'),
  'observer.threadUp': observer('threadUp'),
  'observer.threadDown': observer('threadDown'),
  'observer.threadEnded': observer('threadEnded'),
  'observer.moved': {
    ...observer('moved'),
    options: (act) => ({ observer: { moved: act }, design: 'rfc' }),
  },
  'observer.dropped': observer('dropped', (host) => {
    const deaf = new XenbusWatch({ node: '/my', willHandle: () => false, callback: () => done(undefined) })
    host.complete('x', host.xenbus.register(deaf))
    host.complete('x', host.toolstack.xs.write('/my/a', 1))
    host.pass(1)
    host.complete('x', host.xenbus.unregister(deaf))
  }),
  'observer.purged': observer('purged', (host) => {
    const queue = host.kernel.waitQueue()
    let held = true
    const mine = new XenbusWatch({
      node: '/my',
      *callback() {
        yield* queue.until(() => !held)
      },
    })
    host.complete('x', host.xenbus.register(mine))
    for (const name of ['a', 'b', 'c']) host.complete('x', host.toolstack.xs.write(`/my/${name}`, 1))
    host.start('x', host.xenbus.unregister(mine))
    host.pass(1)
    held = false
    queue.wakeAll()
    host.pass(1)
  }),
  choose: scheduler('choose', (act) => (n: number) => {
    act()
    return n - 1
  }),
  preempt: scheduler(
    'preempt',
    (act) => () => {
      act()
      return false
    },
    (host) => aDomain(host),
  ),
  onState: scheduler('onState', (act) => act),
  'trace of the scheduler': {
    hooks: ['TraceSink.record'],
    options: (act) => ({ scheduler: { trace: { record: act } } }),
    run: (host) => aDomain(host),
  },
  onOops: scheduler(
    'onOops',
    (act) => act,
    (host) =>
      void host.start(
        'x',
        // biome-ignore lint/correctness/useYield: it fails at once
        (function* () {
          throw new Error('an error of its own')
        })(),
      ),
  ),
  'the body of a thread': {
    hooks: [],
    run: (host, act) =>
      void host.start(
        'x',
        // biome-ignore lint/correctness/useYield: it ends at once
        (function* () {
          act()
        })(),
      ),
  },
  'a timer': { hooks: [], run: (host, act) => void host.scheduler.setTimer(host.scheduler.nowNs + 1, act) },
  'work of the kernel': {
    hooks: [],
    run: (host, act) =>
      // biome-ignore lint/correctness/useYield: it ends at once
      host.kernel.scheduleWork(function* () {
        act()
      }),
  },
  cpuOffline: cpu('cpuOffline'),
  cpuOnline: cpu('cpuOnline'),
  'a hotplug script': {
    hooks: ['HostOptions.hotplug', 'ToolstackOptions.hotplug'],
    options: (act) => ({
      hotplug: function* (xs, action, _kind, backend) {
        act()
        if (action === 'add') yield* xs.write(`${backend}/hotplug-status`, 'connected')
        return true
      },
    }),
    run(host) {
      const { domid, ok } = host.complete('xl', host.toolstack.create(guestConfig('passing')))
      if (ok) host.complete('xl', host.toolstack.destroy(domid))
    },
  },
  'onError of a toolstack': {
    hooks: ['ToolstackOptions.onError'],
    run(host, act) {
      const transport = new InProcessTransport(host.store)
      const toolstack = new Toolstack({ kernel: host.kernel, transport, control: host.domains, onError: act })
      expectFailure(host.complete('xl', toolstack.destroy(4711)).ok)
    },
  },
  'connect of a toolstack, for a script': {
    hooks: ['ToolstackOptions.connect'],
    run(host, act) {
      const transport = () => new InProcessTransport(host.store)
      const connect = () => {
        act()
        return transport()
      }
      const toolstack = new Toolstack({ kernel: host.kernel, transport: transport(), control: host.domains, connect })
      const { domid, ok } = host.complete('xl', toolstack.create(guestConfig('passing')))
      if (ok) host.complete('xl', toolstack.destroy(domid))
    },
  },
  'onReady of the scheduler': {
    hooks: ['SchedulerOptions.onReady'],
    options: (act) => ({ scheduler: { onReady: act } }),
    run: (host) => void host.complete('p', host.kernel.sleep(1e6)),
  },
  'onEvent of a process': {
    hooks: [],
    run: (host, act) => void host.complete('x', host.toolstack.xs.watch('/my', act)),
  },
  'otherendChanged and remove of a driver': {
    hooks: ['XenbusDriver.otherendChanged', 'XenbusDriver.remove'],
    run: (host, act) => aDevice(host, act, ['otherendChanged', 'remove']),
  },
  'connect of a network': network('Network.connect', { network: 'connect' }),
  'bind of a network': network('Network.bind', { network: 'bind' }),
  'listen of a listener': network('NetListener.listen', { listener: 'listen' }),
  'accept of a listener': network('NetListener.accept', { listener: 'accept' }),
  'pending of a listener': network('NetListener.pending', { listener: 'pending' }),
  'close of a listener': network('NetListener.close', { listener: 'close' }),
  'receive of a socket': network('NetSocket.receive', { socket: 'receive' }),
  'send of a socket': network('NetSocket.send', { socket: 'send' }),
  'close of a socket': network('NetSocket.close', { socket: 'close' }),
  'choose of the per-socket policy': {
    hooks: ['IoPolicyOptions.choose'],
    options: (act) => ({
      dom0Cpus: 3,
      guest: { frames: 256 },
      pvcalls: {
        policy: 'per-socket',
        choose: (n) => {
          act()
          return n - 1
        },
      },
    }),
    run: (host, act) => network('', {}).run(host, act),
  },
}

function expectFailure(ok: boolean): void {
  if (ok) throw new Error('there was a domain 4711')
}

function cpu(what: 'cpuOffline' | 'cpuOnline'): Dom0Row {
  return {
    hooks: [`CpuSubscriber.${what}`],
    options: () => ({ dom0Cpus: 2 }),
    run(host, act) {
      const quiet = { cpuOffline: () => done(undefined), cpuOnline: () => done(undefined) }
      host.kernel.cpus.subscribe({
        ...quiet,
        // biome-ignore lint/correctness/useYield: it ends at once
        *[what]() {
          act()
        },
      })
      host.complete('x', host.kernel.cpus.takeOffline(1))
      host.complete('x', host.kernel.cpus.bringOnline(1))
    },
  }
}

/** A device appears for the user's driver, sees its frontend's state, and goes. */
function aDevice(host: Host, act: Act, failing: readonly string[]): void {
  const call = (name: string) =>
    // biome-ignore lint/correctness/useYield: it ends at once
    function* (): Task {
      if (failing.includes(name)) act()
    }
  host.bus.addDriver({
    type: 'my',
    busFrames: 'all',
    probe: call('probe'),
    otherendChanged: call('otherendChanged'),
    remove: call('remove'),
  })
  const { xs } = host.toolstack
  const back = '/local/domain/0/backend/my/1/0'
  const front = '/local/domain/1/device/my/0'
  const run = (task: Task) => host.complete('x', task)
  run(xs.write(`${front}/state`, 1))
  run(
    xs.transaction(function* (tx) {
      yield* xs.write(`${back}/frontend`, front, tx)
      yield* xs.write(`${back}/frontend-id`, 1, tx)
      yield* xs.write(`${back}/state`, 1, tx)
    }),
  )
  host.pass(1)
  run(xs.write(`${front}/state`, 4))
  host.pass(1)
  run(xs.rm(back))
  host.pass(1)
  if (host.bus.device('backend/my/1/0')) throw new Error('the device has not gone')
}

/**
 * The FIFO part of a saved domain: what Xen keeps beside the guest's words (fifo.ts). The words themselves, and with them
 * every queue's links, are RAM. What each port has of its own outlives the ABI, so it is the port table's (format.ts).
 */

import {
  CONTROL_BLOCK,
  EVTCHN_FIFO_MAX_PAGES,
  EVTCHN_FIFO_MAX_QUEUES,
  EVTCHN_FIFO_WORDS_PER_PAGE,
  PAGE_SIZE,
} from '../abi/index.js'
import { type ControlBlock, FifoPortOps, type FifoSnapshot, FifoState } from '../domain/fifo.js'
import { Errno } from '../errno.js'
import type { AbiPart, AbiShape, Install } from './abi_part.js'
import { type Fields, RestoreError, SavedStateError } from './fields.js'

/** The part of the FIFO ABI: the event array, and of each vCPU the control block and the tails of its queues. */
export interface SavedFifo extends FifoSnapshot {
  name: 'fifo'
}

/** How a FIFO domain is saved and read back. */
export const fifoPart: AbiPart<SavedFifo> = {
  name: 'fifo',
  inForce: (domain) => domain.portOps instanceof FifoPortOps,
  save: (domain) => domain.fifo!.toJSON(),
  read: readFifo,
}

function readFifo(fields: Fields, shape: AbiShape): Install {
  fields.only(['name', 'pages', 'queues'])
  const pages = fields.ints('pages', EVTCHN_FIFO_MAX_PAGES, 0, shape.frames - 1)
  const ports = pages.length * EVTCHN_FIFO_WORDS_PER_PAGE
  const queues = fields.objects('queues', shape.vcpus).map((each) => readQueues(each, shape.frames, ports))
  const path = fields.path('queues')
  if (queues.length !== shape.vcpus)
    throw new SavedStateError(path, `has ${queues.length} elements for ${shape.vcpus} vCPUs`)
  if (queues.every(({ block }) => block === null))
    throw new SavedStateError(path, 'have no control block at all, and the first one is what makes a FIFO domain')
  return (world, domain) => {
    if (!world.limits.fifo)
      throw new RestoreError(fields.path('name'), Errno.EOPNOTSUPP, 'this host has no FIFO event channels')
    if (!domain.nlevelLimits.fifoAllowed)
      throw new RestoreError(fields.path('name'), Errno.EOPNOTSUPP, 'the domain may not have FIFO event channels')
    domain.enterFifo(FifoState.from({ pages, queues }, domain.memory, domain.hostCore.memory))
  }
}

/** `ports`: how many the event array has words for. */
function readQueues(fields: Fields, frames: number, ports: number): FifoSnapshot['queues'][number] {
  fields.only(['block', 'tails'])
  const given = fields.maybe('block')
  // A tail is followed to its word, so that must exist; 0 = the queue is empty.
  const tails = fields.ints('tails', EVTCHN_FIFO_MAX_QUEUES, 0, Math.max(0, ports - 1))
  if (tails.length !== EVTCHN_FIFO_MAX_QUEUES)
    throw new SavedStateError(fields.path('tails'), `has ${tails.length} elements for ${EVTCHN_FIFO_MAX_QUEUES} queues`)
  return { block: given && readBlock(given, frames), tails }
}

function readBlock(fields: Fields, frames: number): ControlBlock {
  fields.only(['gfn', 'offset'])
  const offset = fields.int('offset', 0, PAGE_SIZE - CONTROL_BLOCK.size)
  if (offset % 8) throw new SavedStateError(fields.path('offset'), `is ${offset}, not a multiple of 8`)
  return { gfn: fields.int('gfn', 0, frames - 1), offset }
}

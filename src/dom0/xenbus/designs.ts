/** The designs by name. */

import type { Delivery, DeliveryHost, Design } from './delivery.js'
import { OnDemandDelivery } from './on_demand.js'
import { RfcDelivery } from './rfc.js'
import { SingleDelivery } from './single.js'
import { TalkDelivery } from './talk.js'

const MAKERS: Record<Design, new (host: DeliveryHost) => Delivery> = {
  single: SingleDelivery,
  rfc: RfcDelivery,
  talk: TalkDelivery,
  'on-demand': OnDemandDelivery,
}

/** A delivery of a design. */
export function makeDelivery(design: Design, host: DeliveryHost): Delivery {
  return new MAKERS[design](host)
}

/** The trace engine of Chrome's DevTools, behind a door with types of ours: its own need the DOM. */

import * as DevTools from '@paulirish/trace_engine/models/trace/trace.js'

/** Reads the entries of a Chrome trace; what each of the engine's handlers found. */
export async function asDevToolsReadIt(traceEvents) {
  const model = DevTools.TraceModel.Model.createWithAllHandlers()
  await model.parse(traceEvents, { metadata: {}, isFreshRecording: false })
  return model.parsedTrace(0).data
}

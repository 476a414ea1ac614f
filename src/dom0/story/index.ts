/** Stories of a stalled dom0: steps, time that stops where one likes, and all that can be seen there. */

export type { StoryEvent, StoryEventKind } from './events.js'
export type { StepRecord } from './record.js'
export {
  type ListView,
  type Plot,
  type Step,
  Story,
  type StoryOptions,
  type StoryState,
  type ThreadView,
} from './story.js'

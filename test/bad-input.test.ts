/**
 * Typed calls with nonsense: for every parameter, a value of the wrong type or range is a ParameterError that names the
 * parameter, what was given and what is allowed; or, where a number is in range and nothing is there, what Xen answers.
 * Nothing on the host has changed.
 */

import { describe, expect, it } from 'vitest'
import { ParameterError } from '../src/index.js'
import { GUEST, HOST, machine, told } from './nonsense.js'

describe.each([...Object.entries(HOST), ...Object.entries(GUEST)])('%s', (_, cases) => {
  it.each(cases)(
    '%s of a wrong type or range is named, with what was given and what is allowed',
    (name, call, wrong) => {
      const at = machine()
      const before = told(at)
      for (const bad of wrong) {
        let thrown: unknown = 'nothing'
        try {
          call(at, bad as never)
        } catch (error) {
          thrown = error
        }
        expect(thrown, `${String(bad)} (${typeof bad})`).toBeInstanceOf(ParameterError)
        const { message } = thrown as Error
        // A member of what was given may be the one that is wrong.
        expect(message).toContain(`: ${name}`)
        expect(message).toMatch(/ is .+; allowed: ./)
        if (typeof bad === 'number' || typeof bad === 'string') expect(message).toContain(String(bad))
      }
      expect(told(at)).toBe(before)
    },
  )
})

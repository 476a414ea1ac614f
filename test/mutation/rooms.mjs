/**
 * Which tests look for a mutant of which files: the folders of test/ that prove a room, nearest first. A mutant that these
 * do not find is counted as not found, also if a test far away would notice it.
 */

const CORE = [
  'test/ops',
  'test/fifo',
  'test/nlevel',
  'test/delivery',
  'test/advisories',
  'test/migration',
  'test/guest',
]
const CORE_FILES = [
  'test/xenevtchn.test.ts',
  'test/bad-input.test.ts',
  'test/options.test.ts',
  'test/golden.test.ts',
  'test/isolation.test.ts',
  'test/fairness.test.ts',
  'test/hostile.test.ts',
]
const DOM0 = ['test/xenwatch', 'test/kernel', 'test/pvcalls', 'test/dom0-options.test.ts', 'test/reliability']

/** Beginning of a path → tests. The longest beginning wins. */
const ROOMS = {
  'assembly/': ['test/core', 'test/interleave', 'test/model', ...CORE, ...CORE_FILES],
  'src/': ['test/units', ...CORE, ...CORE_FILES, 'test/reliability'],
  'src/abi/': ['test/abi', ...CORE, ...CORE_FILES],
  'src/cli/': [
    'test/cli.test.ts',
    'test/screen.test.ts',
    'test/nlevel',
    'test/migration',
    'test/xenwatch',
    'test/pvcalls',
    'test/trace',
    'test/fifo',
    'test/xenstore',
    'test/variants',
  ],
  'src/domain/': [...CORE, 'test/grants', 'test/machine', 'test/dump', ...CORE_FILES],
  'src/dom0/': [...DOM0, 'test/host'],
  'src/dom0/backends/pvcalls/': ['test/pvcalls', ...DOM0],
  'src/dom0/frontends/pvcalls/': ['test/pvcalls', ...DOM0],
  'src/dom0/kernel/': ['test/kernel', ...DOM0],
  'src/dump/': ['test/dump', ...CORE, ...CORE_FILES],
  'src/guest/': ['test/guest', ...CORE, 'test/grants', ...CORE_FILES, 'test/reliability'],
  'src/host/': ['test/host', ...CORE, ...CORE_FILES, 'test/dump', 'test/reliability', 'test/machine'],
  'src/hypercalls/': [...CORE, 'test/grants', ...CORE_FILES, 'test/reliability'],
  'src/hypervisor/': ['test/host', ...CORE, 'test/dump', ...CORE_FILES, 'test/reliability'],
  'src/machine/': ['test/machine', 'test/core', ...CORE, ...CORE_FILES],
  'src/migration/': ['test/migration', ...CORE, ...CORE_FILES],
  'src/node/': ['test/pvcalls', 'test/xenstore'],
  'src/scenarios/': ['test/xenwatch', 'test/pvcalls', 'test/reliability', 'test/cli.test.ts'],
  'src/trace/': ['test/trace', ...CORE, 'test/reliability'],
  'src/variants/': ['test/variants', 'test/cli.test.ts'],
  'src/xenstore/': ['test/xenstore', 'test/reliability', 'test/xenwatch'],
}

/** Tests that need a compiler, a browser or a minute: never asked. */
const NEVER =
  /test\/(types|real|simulation)\/|(lengths|boundaries|links|readme|examples|browser|c-guest|threads-build|conformance)\.test|xenstore\/(tools|oracle)|abi\/layouts|nlevel\/header|xenwatch\/schedules|fifo\/(interleave|model)|isolation|requests/

/**
 * Test files that look for a mutant of a file, nearest first; of a folder, those named like the file first.
 * @param {string} file of src/ or assembly/
 * @param {readonly string[]} all every test file
 */
export function testsOf(file, all) {
  const room = Object.keys(ROOMS)
    .filter((each) => file.startsWith(each))
    .sort((a, b) => b.length - a.length)[0]
  const words = file.split('/').at(-1).replace('.ts', '').split('_')
  const near = (test) => (words.some((word) => test.includes(word)) ? 0 : 1)
  const inRoom = (each) =>
    all.filter((test) => test === each || test.startsWith(`${each}/`)).sort((a, b) => near(a) - near(b))
  return [...new Set(ROOMS[room].flatMap(inRoom))].filter((test) => !NEVER.test(test))
}

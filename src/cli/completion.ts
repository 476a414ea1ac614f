/** `evtchn completion bash|zsh|fish`: what a shell asks to complete our commands, made from their tables of options. */

import { type Command, command, optionsOf } from './command.js'
import { UsageError } from './errors.js'
import type { Option } from './options.js'

const SHELLS = { bash, zsh, fish } as const
const isShell = (name: string): name is keyof typeof SHELLS => Object.hasOwn(SHELLS, name)

/** The subcommand. `commands`: all there are. */
export const completion = (commands: () => readonly Command[]): Command =>
  command({
    name: 'completion',
    summary: 'print what a shell needs to complete commands and options',
    about:
      'Prints a script for a shell.\nbash: eval "$(evtchn completion bash)" in ~/.bashrc\nzsh: evtchn completion zsh > a file _evtchn in a folder of $fpath\nfish: evtchn completion fish > ~/.config/fish/completions/evtchn.fish',
    options: {},
    operands: 'bash|zsh|fish',
    traced: false,
    run({ program, operands: [shell = '', ...rest], screen }) {
      if (!isShell(shell) || rest.length)
        throw new UsageError(
          `${program}: ${JSON.stringify([shell, ...rest].join(' '))} is no shell; allowed: bash, zsh, fish.`,
        )
      screen.raw(SHELLS[shell](commands()))
      return 0
    },
  })

const all = (each: Command): [string, Option][] => [
  ...Object.entries(optionsOf(each)),
  ['help', { help: 'print the help text', read: () => true }],
]
const isFile = ({ value }: Option): boolean => value === 'FILE' || value === 'PATH'
const namesOf = (commands: readonly Command[]): string => [...commands.map(({ name }) => name), 'help'].join(' ')

function bash(commands: readonly Command[]): string {
  const values = commands.flatMap((each) =>
    all(each).flatMap(([name, option]) => {
      if (option.value === undefined || option.optionalValue) return []
      const words = isFile(option) ? `-f` : `-W '${(option.words ?? []).join(' ')}'`
      return [`    '${each.name} --${name}') COMPREPLY=($(compgen ${words} -- "$cur")); return ;;`]
    }),
  )
  const options = commands.map(
    (each) =>
      `    ${each.name}) words='${all(each)
        .map(([name]) => `--${name}`)
        .join(' ')}' ;;`,
  )
  return `# bash completion of evtchn
_evtchn() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command=\${COMP_WORDS[1]} words=
  COMPREPLY=()
  if [ "$COMP_CWORD" = 1 ]; then
    COMPREPLY=($(compgen -W '${namesOf(commands)} --help --version' -- "$cur"))
    return
  fi
  case "$command $prev" in
    'help help') COMPREPLY=($(compgen -W '${namesOf(commands)}' -- "$cur")); return ;;
    'completion completion') COMPREPLY=($(compgen -W 'bash zsh fish' -- "$cur")); return ;;
${values.join('\n')}
  esac
  case "$command" in
${options.join('\n')}
  esac
  case "$cur" in
    -*) COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;
    *) COMPREPLY=($(compgen -f -- "$cur")) ;;
  esac
}
complete -F _evtchn evtchn`
}

/** Inside single quotes of a shell. */
const quoted = (text: string): string => text.replaceAll("'", `'\\''`)

function zsh(commands: readonly Command[]): string {
  // In a description a bracket ends it, and in a word a colon.
  const plain = (text: string) => quoted(text.replace(/[[\]:]/g, (char) => `\\${char}`))
  const spec = (name: string, option: Option): string => {
    const action = isFile(option) ? '_files' : option.words ? `(${option.words.join(' ')})` : ''
    const value = option.value === undefined ? '' : `${option.optionalValue ? '::' : ':'}value:${action}`
    return `'--${name}${option.optionalValue ? '=-' : ''}[${plain(option.help)}]${value}'`
  }
  const cases = commands.map(
    (each) => `    ${each.name}) _arguments ${all(each)
      .map(([name, option]) => spec(name, option))
      .join(' \\\n      ')} \\
      '*:file:_files' ;;`,
  )
  return `#compdef evtchn
_evtchn() {
  local -a commands
  commands=(
${commands.map(({ name, summary }) => `    '${name}:${plain(summary)}'`).join('\n')}
    'help:the help text of a command'
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
    help) _describe command commands ;;
${cases.join('\n')}
  esac
}
_evtchn "$@"`
}

function fish(commands: readonly Command[]): string {
  const lines = commands.flatMap((each) => [
    `complete -c evtchn -n __fish_use_subcommand -f -a ${each.name} -d '${quoted(each.summary)}'`,
    ...all(each).map(([name, option]) => {
      const takes = option.value === undefined || option.optionalValue ? '' : isFile(option) ? ' -r -F' : ' -x'
      const words = option.words ? ` -a '${option.words.join(' ')}'` : ''
      return `complete -c evtchn -n '__fish_seen_subcommand_from ${each.name}' -l ${name}${takes}${words} -d '${quoted(option.help)}'`
    }),
  ])
  return ['# fish completion of evtchn', ...lines].join('\n')
}

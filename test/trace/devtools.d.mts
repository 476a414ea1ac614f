/** Of what the engine found: only what is asked for here. */
export interface Found {
  readonly Meta: { readonly processNames: ReadonlyMap<number, { readonly args: { readonly name: string } }> }
  readonly Renderer: {
    readonly processes: ReadonlyMap<
      number,
      {
        readonly threads: ReadonlyMap<number, { readonly name: string; readonly entries: readonly { name: string }[] }>
      }
    >
  }
}

export function asDevToolsReadIt(traceEvents: unknown): Promise<Found>

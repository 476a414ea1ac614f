/** Two guests on workers, and the hypervisor on a third: a page's own thread may not wait, so it only shows what they say. */

const out = document.getElementById('out')
const print = (text: string): void => {
  if (out) out.textContent += `${text}\n`
}

if (!crossOriginIsolated) {
  print('this page is not cross-origin isolated, so it has no shared memory, and vCPUs cannot have threads')
  print('serve it with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp')
  print('done')
} else {
  const host = new Worker('/build/examples/browser/threads-host.page.js', { type: 'module' })
  host.onerror = ({ message }) => print(`failed: ${message}`)
  let finished = false
  host.onmessage = ({ data }) => {
    print(String(data))
    finished = data === 'done'
  }
  // A headless browser whose time is virtual waits for requests, and not for workers.
  while (!finished) await fetch('/examples/browser/threads.html', { cache: 'no-store' })
}

export {}

/*
 * Which ports a run raises: the same generator as bench/ports.ts, number for number, so that the C program and the
 * others raise the same ports in the same order.
 */
#ifndef PORTS_H
#define PORTS_H

#include <stdbool.h>
#include <stdint.h>

static uint32_t seed_state;

/* A counter through an integer mixer. */
static uint32_t draw(void) {
  uint32_t x = seed_state += 0x9e3779b9u;
  x = (x ^ x >> 16) * 0x21f0aaadu;
  x = (x ^ x >> 15) * 0x735a2d97u;
  return x ^ x >> 15;
}

/* k distinct ports below `range`: a contiguous run, or uniformly drawn without replacement. `taken` is range bytes of 0. */
static void draw_ports(uint32_t *ports, uint32_t k, uint32_t range, bool clustered, uint8_t *taken) {
  if (clustered) {
    const uint32_t base = draw() % (range - k + 1);
    for (uint32_t i = 0; i < k; i++) ports[i] = base + i;
    return;
  }
  for (uint32_t i = 0; i < k;) {
    const uint32_t port = draw() % range;
    if (taken[port]) continue;
    taken[port] = 1;
    ports[i++] = port;
  }
  for (uint32_t i = 0; i < k; i++) taken[ports[i]] = 0;
}

#endif

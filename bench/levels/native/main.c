/*
 * The C program of the bench: holds `trees` trees, raises and scans on command, checks its own results.
 *
 *     levels-N-W TREES LISTS K spread|clustered RANGE SEED
 *
 * A command a line on stdin, an answer a line on stdout: `check LISTS` → `ok DIGEST` or `wrong …`; `send CYCLES LIMIT`
 * and `scan CYCLES LIMIT` → nanoseconds per event. A cycle raises the K ports of one list in every tree, then scans every tree;
 * one of the two is timed, as bench/cycle.ts does: see there for how, and why.
 */
#define _POSIX_C_SOURCE 200809L
#include "levels.h"
#include "ports.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE 4096u
#define CHANNELS ((uint32_t)1 << (SHIFT * LEVELS))

static struct tree *forest;
static uint32_t trees, lists, k, stride;
static uint32_t *ports; /* lists × trees × k */
static uint32_t *found; /* trees × (k + 1): a buffer that is never full */

static void *frames(size_t count) {
  char *at = aligned_alloc(PAGE, count * PAGE);
  if (!at) exit(2);
  memset(at, 0, count * PAGE);
  /* Written, every page gets memory of its own; the kernel serves reads of untouched memory from one page. */
  for (size_t i = 0; i < count; i++) *(volatile char *)(at + i * PAGE) = 0;
  return at;
}

static word **page_table(char *pages, size_t count) {
  word **table = malloc(count * sizeof *table);
  if (!table) exit(2);
  for (size_t i = 0; i < count; i++) table[i] = (word *)(pages + i * PAGE);
  return table;
}

/*
 * The ABI's places: at two levels a shared_info with vcpu_info and leaf, else selectors and leaf in frames. Small things
 * lie side by side, as in bench/forest.ts: see there why.
 */
static void plant(void) {
  const size_t leaf_pages = (CHANNELS + 32767) >> 15, last_pages = ((CHANNELS >> SHIFT) + 32767) >> 15;
  char *small = (char *)frames(1 + trees * (64 + 512) / PAGE + 1) + 1024;
  forest = calloc(trees, sizeof *forest);
  if (!forest) exit(2);
  for (uint32_t i = 0; i < trees; i++, small += 64 + 512) {
    struct tree *t = &forest[i];
    char *info = LEVELS == 2 ? (char *)frames(1) + 64 * i : small;
    t->upcall = (uint8_t *)info;
    t->level1 = (word *)(info + BITS / 8);
    t->channels = CHANNELS;
    if (LEVELS == 2) {
      t->pending = info - 64 * i + 2048;
      t->mask = info - 64 * i + (BITS == 64 ? 2560 : 2176);
      continue;
    }
    t->pending = page_table(frames(leaf_pages), leaf_pages);
    t->mask = page_table(frames(leaf_pages), leaf_pages);
    /* A selector level of up to 512 bytes shares a frame with others. */
    t->level2 = (word *)(small + 64);
    const bool packed = LEVELS == 3 && CHANNELS >> SHIFT <= 4096;
    t->last = packed ? page_table(small + 64, 1) : page_table(frames(last_pages), last_pages);
  }
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint32_t raise_all(uint32_t list, uint32_t count) {
  uint32_t told = 0;
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t *mine = ports + ((size_t)list * trees + i) * k;
    for (uint32_t j = 0; j < k; j++) told += raise_port(&forest[i], mine[j]);
  }
  return told;
}

static uint32_t scan_all(uint32_t count) {
  uint32_t total = 0;
  for (uint32_t i = 0; i < count; i++) total += scan(&forest[i], found + (size_t)i * stride, stride);
  return total;
}

static int wrong(const char *what, uint32_t list, uint32_t tree) {
  printf("wrong %s, list %u, tree %u\n", what, list, tree);
  return 1;
}

static int ascending(const void *a, const void *b) {
  const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

/* The ports delivered are the ports raised: each list once with room for all, once with a buffer of 7. */
static int check(uint32_t count) {
  uint32_t digest = 0x811c9dc5u;
  uint32_t *sorted = malloc(k * sizeof *sorted);
  for (uint32_t i = 0; i < trees; i++) forest[i].next = 0;
  for (uint32_t round = 0; round < 2; round++)
    for (uint32_t list = 0; list < count && list < lists; list++) {
      if (raise_all(list, trees) != trees) return wrong("number of upcalls", list, 0);
      for (uint32_t i = 0; i < trees; i++) {
        struct tree *t = &forest[i];
        uint32_t *mine = found + (size_t)i * stride, total = 0;
        if (round == 0) total = scan(t, mine, stride);
        else
          for (uint32_t some; total < k; total += some) {
            if (!*t->upcall) return wrong("upcall flag after a short scan", list, i);
            some = scan(t, mine + total, k - total < 7 ? k - total : 7);
          }
        /* A scan that the last port filled may leave selector bits with nothing beneath. */
        if (round && scan(t, mine + k, 1)) return wrong("a port too many", list, i);
        if (total != k || *t->upcall || *t->level1) return wrong("state after a scan", list, i);
        for (uint32_t j = 0; j < k && !round; j++) digest = (digest ^ mine[j]) * 0x01000193u;
        memcpy(sorted, ports + ((size_t)list * trees + i) * k, k * sizeof *sorted);
        qsort(sorted, k, sizeof *sorted, ascending);
        qsort(mine, k, sizeof *mine, ascending);
        if (memcmp(sorted, mine, k * sizeof *mine)) return wrong("ports", list, i);
      }
    }
  free(sorted);
  printf("ok %u\n", digest);
  return 0;
}

static int measure(bool sending, uint32_t cycles, double limit) {
  double spent = 0, counted = 0;
  for (uint32_t cycle = 0; cycle < cycles; cycle++) {
    uint32_t told, total;
    double empty, begin, end;
    if (sending) {
      now(), raise_all(cycle % lists, 0);
      empty = now();
      raise_all(cycle % lists, 0);
      begin = now();
      told = raise_all(cycle % lists, trees);
      end = now();
      total = scan_all(trees);
    } else {
      told = raise_all(cycle % lists, trees);
      now(), scan_all(0);
      empty = now();
      scan_all(0);
      begin = now();
      total = scan_all(trees);
      end = now();
    }
    if (told != trees || total != trees * k) return wrong("count", cycle % lists, 0);
    if (end - begin > limit || begin - empty > limit) continue;
    spent += end - begin - (begin - empty);
    counted++;
  }
  printf("%.4f\n", spent / (counted * trees * k));
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 7) return 2;
  trees = (uint32_t)strtoul(argv[1], NULL, 10);
  lists = (uint32_t)strtoul(argv[2], NULL, 10);
  k = (uint32_t)strtoul(argv[3], NULL, 10);
  const bool clustered = !strcmp(argv[4], "clustered");
  const uint32_t range = (uint32_t)strtoul(argv[5], NULL, 10);
  seed_state = (uint32_t)strtoul(argv[6], NULL, 10);
  stride = k + 1;
  ports = malloc((size_t)lists * trees * k * sizeof *ports);
  found = malloc((size_t)trees * stride * sizeof *found);
  uint8_t *taken = calloc(range, 1);
  if (!ports || !found || !taken) return 2;
  for (uint32_t i = 0; i < lists * trees; i++) draw_ports(ports + (size_t)i * k, k, range, clustered, taken);
  free(taken);
  plant();
  char line[64];
  while (fgets(line, sizeof line, stdin)) {
    int failed;
    if (!strncmp(line, "check", 5)) failed = check((uint32_t)strtoul(line + 5, NULL, 10));
    else {
      char *rest;
      const uint32_t cycles = (uint32_t)strtoul(line + 4, &rest, 10);
      failed = measure(!strncmp(line, "send", 4), cycles, strtod(rest, NULL));
    }
    fflush(stdout);
    if (failed) return 1;
  }
  return 0;
}

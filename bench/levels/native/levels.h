/*
 * The core's algorithm in C: raise, climb and scan for one depth and one width, chosen by -DLEVELS=2…4 -DBITS=32|64.
 *
 * This is the limit that the bench measures the wasm core against, so it is written as C likes it: one function per
 * level, everything constant at compile time, and the compiler's locked instructions (`__atomic_*`, sequentially
 * consistent). The steps that other threads could see are those of assembly/guest/levels.ts and assembly/guest/scan.ts: the same
 * words, the same test before the read-modify-write on selectors, one clear per leaf word, cyclic order from `next`, and
 * give-back when the buffer is full. It has no filter; the core is measured without one.
 *
 *     level 1 ── level 2 ── … ── level n (leaf: pending and mask)      bit of port p in level k: p >> SHIFT·(n-k)
 */
#ifndef LEVELS_H
#define LEVELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if BITS == 64
typedef uint64_t word;
#define SHIFT 6
#define first_bit(w) ((uint32_t)__builtin_ctzll(w))
#define bit_count(w) __builtin_popcountll(w)
#else
typedef uint32_t word;
#define SHIFT 5
#define first_bit(w) ((uint32_t)__builtin_ctz(w))
#define bit_count(w) __builtin_popcount(w)
#endif

#define PAGE_BITS_SHIFT 15 /* a leaf page of 4 KiB holds 32,768 bits */
#define bit_of(n) ((word)1 << (n))
#define below(n) (bit_of(n) - 1)
#define low_bits(n) ((uint32_t)(n) & (BITS - 1))

#define ALWAYS static inline __attribute__((always_inline))

/* One vCPU's tree: where its words are. `left` is 1 while a scan that ran out of buffer gives back. */
struct tree {
  uint8_t *upcall;
  word *level1;
  word *level2;  /* LEVELS = 4: fits in a page */
  word **last;   /* LEVELS > 2: pages of level n-1 */
  void *pending; /* pages of the leaf; at LEVELS = 2 the words themselves */
  void *mask;
  uint32_t channels;
  uint32_t next;
  bool left;
};

/* ---- memory ---- */

#define atomic_read(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define atomic_or(p, v) __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define atomic_and(p, v) __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)
#define atomic_take(p) __atomic_exchange_n((p), 0, __ATOMIC_SEQ_CST)

ALWAYS word *paged(word **pages, uint32_t index) {
  const uint32_t per_page = PAGE_BITS_SHIFT - SHIFT;
  return pages[index >> per_page] + (index & ((1u << per_page) - 1));
}

ALWAYS word *leaf_word(void *bitmap, uint32_t index) {
  return LEVELS == 2 ? (word *)bitmap + index : paged(bitmap, index);
}

ALWAYS word *selector_word(const struct tree *t, int k, uint32_t index) {
  if (k == 1) return t->level1;
  if (k == LEVELS - 1) return paged(t->last, index);
  return t->level2 + index;
}

/* ---- the hypervisor's side ---- */

/* Sets a selector's bit; true if it was set. The load first saves the locked instruction when it was. */
ALWAYS bool selector_set(const struct tree *t, int k, uint32_t port) {
  const uint32_t bit = port >> (SHIFT * (LEVELS - k));
  word *at = selector_word(t, k, bit >> SHIFT);
  const word mask = bit_of(low_bits(bit));
  if (atomic_read(at) & mask) return true;
  return (atomic_or(at, mask) & mask) != 0;
}

/* Raises one port; true if the vCPU must be told. */
ALWAYS bool raise_port(const struct tree *t, uint32_t port) {
  const word bit = bit_of(low_bits(port));
  if (atomic_or(leaf_word(t->pending, port >> SHIFT), bit) & bit) return false;
  if (atomic_read(leaf_word(t->mask, port >> SHIFT)) & bit) return false;
  for (int k = LEVELS - 1; k >= 1; k--)
    if (selector_set(t, k, port)) return false;
  return (atomic_or(t->upcall, 1) & 1) == 0;
}

/* ---- the guest's side ---- */

/* Serves a leaf word, of its bits those in `range`; answers the new end of the output. */
ALWAYS uint32_t *serve(struct tree *t, uint32_t index, word range, uint32_t *out, uint32_t *end) {
  word *at = leaf_word(t->pending, index);
  word due = atomic_read(at) & ~atomic_read(leaf_word(t->mask, index)) & range;
  if (!due) return out;
  if (end - out < BITS && bit_count(due) > end - out) {
    word rest = due;
    for (ptrdiff_t room = end - out; room > 0; room--) rest &= rest - 1;
    due &= ~rest;
    t->left = true;
  }
  atomic_and(at, ~due);
  do {
    *out++ = index << SHIFT | first_bit(due);
    due &= due - 1;
  } while (due);
  return out;
}

/* Follows bits of a selector word, lowest first. On a full buffer the rest goes back before the caller's own bit does. */
#define FOLLOW(k, FOLLOW_CHILD)                                                                                       \
  static uint32_t *follow_##k(struct tree *t, uint32_t index, word bits, uint32_t *out, uint32_t *end) {              \
    while (bits) {                                                                                                    \
      const uint32_t child = index << SHIFT | first_bit(bits);                                                        \
      const word own = bits & -bits;                                                                                  \
      bits ^= own;                                                                                                    \
      if (child > (t->channels - 1) >> (SHIFT * (LEVELS - k))) break;                                                 \
      out = FOLLOW_CHILD(t, child, out, end);                                                                         \
      if (out == end) {                                                                                               \
        if (t->left) bits |= own;                                                                                     \
        if (bits) atomic_or(selector_word(t, k, index), bits), t->left = true;                                        \
        break;                                                                                                        \
      }                                                                                                               \
    }                                                                                                                 \
    return out;                                                                                                       \
  }
#define SERVE_ALL(t, child, out, end) serve(t, child, ~(word)0, out, end)
#define TAKE_2(t, child, out, end) follow_2(t, child, atomic_take(selector_word(t, 2, child)), out, end)
#define TAKE_3(t, child, out, end) follow_3(t, child, atomic_take(selector_word(t, 3, child)), out, end)

#if LEVELS == 2
FOLLOW(1, SERVE_ALL)
#elif LEVELS == 3
FOLLOW(2, SERVE_ALL)
FOLLOW(1, TAKE_2)
#elif LEVELS == 4
FOLLOW(3, SERVE_ALL)
FOLLOW(2, TAKE_3)
FOLLOW(1, TAKE_2)
#else
#error "LEVELS must be 2, 3 or 4"
#endif

/* The follow_k of a constant k. */
ALWAYS uint32_t *follow(int k, struct tree *t, uint32_t index, word bits, uint32_t *out, uint32_t *end) {
#if LEVELS == 4
  if (k == 3) return follow_3(t, index, bits, out, end);
#endif
#if LEVELS > 2
  if (k == 2) return follow_2(t, index, bits, out, end);
#endif
  (void)k;
  return follow_1(t, index, bits, out, end);
}

ALWAYS uint32_t path_index(uint32_t start, int k) { return k == 1 ? 0 : start >> (SHIFT * (LEVELS - k + 1)); }
ALWAYS uint32_t path_bit(uint32_t start, int k) { return low_bits(start >> (SHIFT * (LEVELS - k))); }

/*
 * Gives back what the path's words still hold, and the bits above whatever was given back beneath them, bottom-up, the
 * upcall flag last. `full_at` is the level whose word the buffer ended in, LEVELS for the leaf.
 */
static void give_back(struct tree *t, uint32_t start, word *rest, int full_at) {
  bool back = false;
  for (int k = LEVELS - 1; k >= 1; k--) {
    if (back || (full_at == k + 1 && t->left)) rest[k] |= bit_of(path_bit(start, k));
    if (rest[k]) atomic_or(selector_word(t, k, path_index(start, k)), rest[k]);
    back = rest[k] != 0 || (full_at == k && t->left);
  }
  if (back) atomic_or(t->upcall, 1);
}

/*
 * One round. The words that the start lies in, one a level, are the path. Each is taken once on the way down; its bits
 * beyond the start are followed on the way up, those before it (and the start's own bit, if ports lie before the start
 * beneath it) in a second walk down. Answers how many ports it wrote.
 */
static uint32_t scan(struct tree *t, uint32_t *const first, uint32_t max) {
  uint32_t *out = first, *const end = first + max;
  if (!max) return 0;
  __atomic_store_n(t->upcall, 0, __ATOMIC_SEQ_CST);
  word taken = atomic_take(t->level1);
  if (!taken) return 0;
  const uint32_t start = t->next < t->channels ? t->next : 0;
  word rest[LEVELS] = {0};
  int deepest = 1, full_at = 0;
  t->left = false;

  for (int k = 1;; k++) {
    const word own = bit_of(path_bit(start, k));
    const bool split = start & ((1u << (SHIFT * (LEVELS - k))) - 1);
    rest[k] = split ? taken : taken & ~own;
    deepest = k;
    if (!(taken & own)) break;
    if (k == LEVELS - 1) {
      out = serve(t, start >> SHIFT, ~below(low_bits(start)), out, end);
      if (out == end) full_at = LEVELS;
      break;
    }
    taken = atomic_take(selector_word(t, k + 1, path_index(start, k + 1)));
  }
  for (int k = deepest; k >= 1 && !full_at; k--) {
    const word early = below(path_bit(start, k)) | bit_of(path_bit(start, k));
    const word late = rest[k] & ~early;
    rest[k] &= early;
    out = follow(k, t, path_index(start, k), late, out, end);
    if (out == end) full_at = k;
  }
  for (int k = 1; k < LEVELS && !full_at; k++) {
    const word own = bit_of(path_bit(start, k));
    const word early = rest[k] & ~own;
    rest[k] &= own;
    out = follow(k, t, path_index(start, k), early, out, end);
    if (out == end) full_at = k;
    if (full_at || !rest[k]) break;
    rest[k] = 0;
    if (k < LEVELS - 1) continue;
    out = serve(t, start >> SHIFT, below(low_bits(start)), out, end);
    if (out == end) full_at = LEVELS;
  }
  if (full_at) give_back(t, start, rest, full_at);
  if (out != first) t->next = out[-1] + 1 < t->channels ? out[-1] + 1 : 0;
  return (uint32_t)(out - first);
}

#endif

/*
 * A 32-bit HVM guest of a few KiB: no libc, no page tables, one vCPU. machine.c brings it up; each test has a `test` of its
 * own, which returns when all is as it should be, and stops by `fail` otherwise.
 */
#ifndef TINY_GUEST_H
#define TINY_GUEST_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define PAGE 4096
#define DOMID_SELF 0x7ff0
/* Bits of a word, and channels of two levels. */
#define WORD 32
#define TWO_LEVELS 1024

enum { ENOENT = 2, EFAULT = 14, EBUSY = 16, EEXIST = 17, EINVAL = 22, ENOSPC = 28, ENOSYS = 38, EOPNOTSUPP = 95 };

/* xen/include/public/xen.h, 32 bits */
struct vcpu_info {
    u8 upcall_pending, upcall_mask, pad[2];
    u32 pending_sel;
    u32 arch[6];
    u32 time[8];
};
struct shared_info {
    struct vcpu_info vcpu[32];
    u32 pending[WORD], mask[WORD];
    u8 rest[PAGE - 2048 - 256];
};

/* machine.c */
extern struct shared_info shared;
extern struct vcpu_info *cpu;
extern u32 upcalls;
/* Takes the events that are pending; called by each upcall, which the test may replace. */
extern void (*scan)(void);
/* Counts an event of a port. The test's own. */
void event(u32 port);
void scan_two_levels(void);
void test(void);

int hypercall(u32 nr, u32 a, u32 b, u32 c);
void puts(const char *text);
void say(const char *text, u32 number);
void fail(const char *what, int got);
/* Stops unless the two are equal. */
void expect(const char *what, int got, int wanted);

static inline int evtchn(u32 cmd, void *arg) { return hypercall(32, cmd, (u32)arg, 0); }
static inline void irqs_off(void) { __asm__ volatile("cli" ::: "memory"); }
static inline void irqs_on(void) { __asm__ volatile("sti; nop" ::: "memory"); }
static inline u32 take(volatile u32 *word)
{
    u32 value = 0;
    __asm__ volatile("xchgl %0, %1" : "+r"(value), "+m"(*word) : : "memory");
    return value;
}
static inline void set_bit(volatile u32 *map, u32 bit)
{
    __asm__ volatile("lock btsl %1, %0" : "+m"(map[bit / WORD]) : "r"(bit % WORD) : "memory");
}
static inline int clear_bit(volatile u32 *map, u32 bit)
{
    u8 was;
    __asm__ volatile("lock btrl %2, %1; setc %0" : "=q"(was), "+m"(map[bit / WORD]) : "r"(bit % WORD) : "memory");
    return was;
}
static inline u32 lowest(u32 word) { return __builtin_ctz(word); }

/* EVTCHNOP numbers (event_channel.h), and this project's of N levels */
enum {
    BIND_INTERDOMAIN, BIND_VIRQ, BIND_PIRQ, CLOSE, SEND, STATUS, ALLOC_UNBOUND, BIND_IPI, BIND_VCPU, UNMASK, RESET,
    INIT_CONTROL, EXPAND_ARRAY, SET_PRIORITY,
    QUERY_NLEVEL = 64, SET_NLEVEL_SELECTORS, REGISTER_NLEVEL
};
int bind_ipi(u32 *port);
int send(u32 port);
int unmask(u32 port);

#endif

/*
 * Brings a guest up as Linux does: finds Xen by CPUID, places shared_info, registers vcpu_info and the upcall vector, and takes
 * upcalls through its local APIC and an interrupt table of its own. Output goes to the first serial line.
 */
#include "guest.h"

#define VECTOR 0xf3
#define APIC 0xfee00000
#define APIC_EOI 0xb0
#define APIC_SPURIOUS 0xf0
#define STACK (64 * 1024)

struct shared_info shared __attribute__((aligned(PAGE)));
static struct vcpu_info info __attribute__((aligned(64)));
struct vcpu_info *cpu = &info;
u32 upcalls;
void (*scan)(void) = scan_two_levels;
u8 stack[STACK] __attribute__((aligned(16)));

int hypercall(u32 nr, u32 a, u32 b, u32 c)
{
    int rc;
    u32 x, y, z;
    __asm__ volatile("vmcall" : "=a"(rc), "=b"(x), "=c"(y), "=d"(z) : "0"(nr), "1"(a), "2"(b), "3"(c) : "memory");
    return rc;
}

static void out(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

void puts(const char *text)
{
    for (; *text; text++) out(0x3f8, *text);
}

static void number(u32 value)
{
    if (value >= 10) number(value / 10);
    out(0x3f8, '0' + value % 10);
}

void say(const char *text, u32 value)
{
    puts(text);
    number(value);
    puts("\n");
}

static void stop(const char *result)
{
    puts(result);
    for (;;) __asm__ volatile("cli; hlt");
}

void fail(const char *what, int got)
{
    puts(what);
    say(got < 0 ? ": errno " : ": ", got < 0 ? -got : got);
    stop("RESULT FAILURE\n");
}

void expect(const char *what, int got, int wanted)
{
    if (got != wanted) fail(what, got);
}

/* The order of Linux's scan: the flag, then a selector's word at once, then each leaf word that is unmasked. */
void scan_two_levels(void)
{
    do {
        cpu->upcall_pending = 0;
        u32 words = take(&cpu->pending_sel);
        for (; words; words &= words - 1) {
            u32 word = lowest(words), due;
            while ((due = shared.pending[word] & ~shared.mask[word]))
                for (; due; due &= due - 1)
                    if (clear_bit(&shared.pending[word], lowest(due))) event(word * WORD + lowest(due));
        }
    } while (*(volatile u8 *)&cpu->upcall_pending);
}

void upcall(void)
{
    upcalls++;
    *(volatile u32 *)(APIC + APIC_EOI) = 0;
    scan();
}
__asm__("entry: pushal; cld; call upcall; popal; iret\nother: iret");
extern void entry(void), other(void);

static u64 segments[] = {0, 0x00cf9b000000ffffull, 0x00cf93000000ffffull};
static struct {
    u16 low, segment;
    u8 zero, type;
    u16 high;
} gates[256] __attribute__((aligned(8)));

static void interrupts(void)
{
    struct {
        u16 bytes;
        u32 base;
    } __attribute__((packed)) gdt = {sizeof segments - 1, (u32)segments}, idt = {sizeof gates - 1, (u32)gates};
    for (u32 i = 0; i < 256; i++) {
        u32 at = (u32)(i == VECTOR ? entry : other);
        gates[i].low = at;
        gates[i].high = at >> 16;
        gates[i].segment = 8;
        gates[i].type = 0x8e;
    }
    __asm__ volatile("lgdt %0; lidt %1" : : "m"(gdt), "m"(idt));
    /* The old interrupt controllers are silent, the local APIC is on. */
    out(0x21, 0xff);
    out(0xa1, 0xff);
    *(volatile u32 *)(APIC + APIC_SPURIOUS) = 0x1ff;
}

static void find_xen(void)
{
    u32 a, b, c, d;
    __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "0"(0x40000000));
    if (b != 0x566e6558 || c != 0x65584d4d || d != 0x4d4d566e) fail("CPUID 0x40000000 is not Xen's", b);
    __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "0"(0x40000001));
    expect("xen_version", hypercall(17, 0, 0, 0), a);
}

void start(void)
{
    struct {
        u16 domid, size;
        u32 space, idx, gpfn;
    } map = {DOMID_SELF, 0, 0, 0, (u32)&shared / PAGE};
    struct {
        u64 mfn;
        u32 offset, pad;
    } at = {(u32)&info / PAGE, (u32)&info % PAGE, 0};
    struct {
        u32 vcpu;
        u8 vector, pad[3];
    } vector = {0, VECTOR, {0}};
    find_xen();
    interrupts();
    expect("add_to_physmap", hypercall(12, 7, (u32)&map, 0), 0);
    for (u32 i = 0; i < WORD; i++) shared.mask[i] = ~0u;
    expect("register_vcpu_info", hypercall(24, 10, 0, (u32)&at), 0);
    expect("set_evtchn_upcall_vector", hypercall(34, 23, (u32)&vector, 0), 0);
    irqs_on();
    test();
    stop("RESULT SUCCESS\n");
}

/* gcc may call them. */
void *memset(void *to, int value, u32 bytes)
{
    u8 *at = to;
    while (bytes--) *at++ = value;
    return to;
}
void *memcpy(void *to, const void *from, u32 bytes)
{
    u8 *at = to;
    const u8 *source = from;
    while (bytes--) *at++ = *source++;
    return to;
}

__asm__(".section .text.head, \"ax\"\n"
        ".globl _start\n"
        "_start: cli\n"
        "        movl $stack + 65536, %esp\n"
        "        xorl %eax, %eax\n"
        "        movl $__bss_start, %edi\n"
        "        movl $_end, %ecx\n"
        "        subl %edi, %ecx\n"
        "        rep stosb\n"
        "        call start\n"
        ".text");

/* Operations that every test makes. */
int bind_ipi(u32 *port)
{
    struct {
        u32 vcpu, port;
    } arg = {0, 0};
    int rc = evtchn(BIND_IPI, &arg);
    *port = arg.port;
    return rc;
}
int send(u32 port) { return evtchn(SEND, &port); }
int unmask(u32 port) { return evtchn(UNMASK, &port); }

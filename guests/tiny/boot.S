/*
 * The head of a bzImage, so that any loader of Linux starts a guest that is not Linux: 1 KiB, then the program, which is
 * loaded at 1 MiB. It opens the A20 gate, enters 32-bit mode with flat segments, and jumps there.
 *
 *      0x1f1 setup sectors   0x1fe signature   0x202 "HdrS", version, flags   0x400 the program's first byte in the file
 */
        .code16
        .org 0x1f1
        .byte 1
        .org 0x1fe
        .word 0xaa55
        .org 0x200
        .byte 0xeb, setup - 0x202
        .ascii "HdrS"
        .word 0x0206                    # boot protocol 2.06
        .org 0x211
        .byte 1                         # loaded high
        .org 0x238
        .long 255                       # longest command line
        .org 0x260
setup:  cli
        inb $0x92, %al
        orb $2, %al
        outb %al, $0x92
        lgdtl table
        movl %cr0, %eax
        orb $1, %al
        movl %eax, %cr0
        ljmpl $8, $0x80000 + flat       # the loader puts this block at 0x80000
        .code32
flat:   movl $16, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movl $0x100000, %eax
        jmp *%eax
table:  .word 23
        .long 0x80000 + segments
        .balign 8
segments:
        .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
        .org 0x400

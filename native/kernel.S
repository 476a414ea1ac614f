/*
 * A kernel for `xl create` that no processor runs: libxc loads it, builds start_info, rings and grant entries around it, and
 * then the library's own kernel boots in that memory. So it is ELF notes, which say "a PV kernel of 64 bits", and one
 * instruction. MIT; own code. Note types: xen/include/public/elfnote.h.
 */
    .section .note.Xen, "a", @note

    .macro text_note type, text
    .align 4
    .long 4, 2f - 1f, \type
    .asciz "Xen"
1:  .asciz "\text"
2:  .align 4
    .endm

    .macro word_note type, value
    .align 4
    .long 4, 8, \type
    .asciz "Xen"
    .quad \value
    .endm

    text_note 6, "evtchn"         /* guest OS */
    text_note 5, "xen-3.0"        /* version of Xen's interface */
    text_note 8, "generic"        /* loader */
    word_note 3, 0                /* virtual base */
    word_note 1, entry            /* entry point */
    word_note 2, 0x2000           /* hypercall page */
    text_note 10, "!writable_page_tables|pae_pgdir_above_4gb"
    text_note 9, "yes"            /* PAE */

    .text
    .globl entry
entry:
    hlt
    .org 0x2000

    .section .note.GNU-stack, "", @progbits

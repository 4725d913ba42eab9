/*
 * A board without an operating system or a C library: what happens before main, and what it asks of the debugger that
 * watches it, which is QEMU here.
 */
#ifndef BOARD_H
#define BOARD_H

#include <stddef.h>
#include <stdint.h>

/* Ends the program. */
void board_end(int status) __attribute__((noreturn));

/* Copies a word of the command line, of which the 0th is the program; 0 where there is none. */
int board_argument(unsigned nth, char *to, size_t bytes);

/* Opens a file of the host's; 0 where it cannot be opened. */
int board_open(const char *name, int32_t *file);

/* Reads the next bytes of a file; 0 where there are fewer. */
int board_read(int32_t file, void *to, size_t bytes);

/* Says how deep the stack has been, in bytes. */
size_t board_stack(void);

/* Print text, and numbers: a count, an exponent, and 32 bits as eight digits.  A line appears when it ends. */
void print(const char *text);
void print_count(uint64_t count);
void print_log2(int32_t log2);
void print_bits(uint32_t bits);

/* Of the C library, only what compilers call: they are in libadaloss.a, from Rust's compiler_builtins. */
void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
int memcmp(const void *one, const void *other, size_t bytes);

#endif

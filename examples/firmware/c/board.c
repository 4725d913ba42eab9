#include "board.h"

/* ---- What happens before main ---- */

/* Where the linker puts things, from board.ld. */
extern uint32_t data_begin[], data_end[], bss_begin[], bss_end[], stack_top[];
extern const uint32_t data_loaded[];

enum { PAINT = 0x5aa5a55a };

int main(void);
void reset(void);

/* Fills memory, paints the free part of the stack, and runs the program. */
static void begin(void)
{
    const uint32_t *from = data_loaded;
    /* A little below this function's frame, which calls nothing before it is done. */
    const uint32_t *const used = (const uint32_t *)__builtin_frame_address(0) - 32;
    for (uint32_t *to = data_begin; to < data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = bss_begin; to < bss_end; to++) {
        *to = 0;
    }
    for (volatile uint32_t *to = bss_end; to < used; to++) {
        *to = PAINT;
    }
    board_end(main());
}

size_t board_stack(void)
{
    const volatile uint32_t *untouched = bss_end;
    while (*untouched == PAINT) {
        untouched++;
    }
    return (size_t)((const uint8_t *)stack_top - (const uint8_t *)untouched);
}

static void fault(void)
{
    board_end(1);
}

#if defined(__arm__)

/* What the processor reads when it starts, and where it goes when something is wrong. */
typedef struct vector_table {
    const uint32_t *stack;
    void (*reset)(void);
    void (*faults[14])(void);
} vector_table;

__attribute__((section(".vector_table"), used)) static const vector_table VECTORS = {
    stack_top,
    reset,
    {fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault},
};

void reset(void)
{
#if defined(__ARM_FP)
    /* The FPU is off until coprocessors 10 and 11 may be used: CPACR of the Armv7-M manual. */
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    begin();
}

#elif defined(__riscv)

/* The processor starts at the first address there is, with nothing set. */
__attribute__((section(".vector_table"), naked)) void reset(void)
{
    __asm__ volatile("la sp, stack_top\n\t"
                     "la t0, %0\n\t"
                     "csrw mtvec, t0\n\t"
                     "j %1" ::"i"(fault),
                     "i"(begin));
}

#endif

/* ---- What the debugger does for the board: Arm's "Semihosting for AArch32 and AArch64", RISC-V's has the same ---- */

enum { OPEN = 0x01, WRITE = 0x05, READ = 0x06, GET_COMMAND_LINE = 0x15, EXIT_EXTENDED = 0x20 };
enum { MODE_READ_BINARY = 1, MODE_WRITE = 4 };
/* The reason of a program that ended by itself. */
enum { APPLICATION_EXIT = 0x20026 };

/* Asks for an operation, whose arguments are the words of a block. */
static int32_t ask(uint32_t operation, const uintptr_t *block)
{
#if defined(__arm__)
    register uint32_t answer __asm__("r0") = operation;
    register const uintptr_t *arguments __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(answer) : "r"(arguments) : "memory");
#elif defined(__riscv)
    register uint32_t answer __asm__("a0") = operation;
    register const uintptr_t *arguments __asm__("a1") = block;
    __asm__ volatile(".option push\n\t"
                     ".option norvc\n\t"
                     ".balign 16\n\t"
                     "slli x0, x0, 0x1f\n\t"
                     "ebreak\n\t"
                     "srai x0, x0, 7\n\t"
                     ".option pop"
                     : "+r"(answer)
                     : "r"(arguments)
                     : "memory");
#endif
    return (int32_t)answer;
}

void board_end(int status)
{
    const uintptr_t block[2] = {APPLICATION_EXIT, (uintptr_t)status};
    for (;;) {
        ask(EXIT_EXTENDED, block);
    }
}

static size_t length_of(const char *text)
{
    size_t length = 0;
    while (text[length] != '\0') {
        length++;
    }
    return length;
}

static int32_t open(const char *name, uintptr_t mode)
{
    const uintptr_t block[3] = {(uintptr_t)name, mode, length_of(name)};
    return ask(OPEN, block);
}

int board_argument(unsigned nth, char *to, size_t bytes)
{
    char line[96];
    const uintptr_t block[2] = {(uintptr_t)line, sizeof line};
    const char *from = line;
    size_t length = 0;
    if (ask(GET_COMMAND_LINE, block) != 0) {
        return 0;
    }
    for (; nth > 0 && *from != '\0'; from++) {
        nth -= *from == ' ';
    }
    while (length + 1 < bytes && from[length] != '\0' && from[length] != ' ') {
        to[length] = from[length];
        length++;
    }
    to[length] = '\0';
    return length > 0;
}

int board_open(const char *name, int32_t *file)
{
    *file = open(name, MODE_READ_BINARY);
    return *file != -1;
}

int board_read(int32_t file, void *to, size_t bytes)
{
    const uintptr_t block[3] = {(uintptr_t)file, (uintptr_t)to, bytes};
    return ask(READ, block) == 0; /* the bytes that were not read */
}

/* ---- Printing: whole lines, since each is one stop of the processor ---- */

static char line[512];
static size_t line_length;

void print(const char *text)
{
    static int32_t out = -1;
    for (; *text != '\0'; text++) {
        line[line_length++] = *text;
        if (*text == '\n' || line_length == sizeof line) {
            uintptr_t block[3] = {0, (uintptr_t)line, line_length};
            out = out == -1 ? open(":tt", MODE_WRITE) : out;
            block[0] = (uintptr_t)out;
            ask(WRITE, block);
            line_length = 0;
        }
    }
}

void print_count(uint64_t count)
{
    char digits[21];
    size_t first = sizeof digits - 1;
    digits[first] = '\0';
    do {
        digits[--first] = (char)('0' + count % 10);
        count /= 10;
    } while (count > 0);
    print(&digits[first]);
}

void print_log2(int32_t log2)
{
    if (log2 < 0) {
        print("-");
    }
    print_count((uint64_t)(log2 < 0 ? -log2 : log2));
}

void print_bits(uint32_t bits)
{
    char digits[9];
    for (int i = 0; i < 8; i++) {
        digits[i] = "0123456789abcdef"[bits >> (28 - 4 * i) & 0xf];
    }
    digits[8] = '\0';
    print(digits);
}

/* Compares the accelerator with the library, on the microcontroller. */
#include "accelerator.h"
#include "board.h"

/* Prints what was compared, or where the device differs; returns 1 where it does. */
static int told(const char *part, adaloss_code code, const adaloss_conformance *report)
{
    print(part);
    if (code != ADALOSS_OK) {
        print(adaloss_code_text(code));
        print(": ");
        print(report->difference);
        print("\n");
        return 1;
    }
    print_count(report->operations);
    print(" operations agree in ");
    print_count(report->elements);
    print(" elements, ");
    print_count(report->refusals);
    print(" were refused\n");
    return 0;
}

int main(void)
{
    static adaloss_conformance report;
    const adaloss_device device = accelerator_device();
    adaloss_code code = adaloss_device_conform_memory(&device, &report);
    int differs = told("memory: ", code, &report);
    code = adaloss_device_conform_narrow(&device, ADALOSS_BINARY16, &report);
    differs |= told("narrow: ", code, &report);
    return differs;
}

/* Takes the place of a program that Windows has and Wine lacks: copied as curl.exe, it runs this machine's curl with the
   same arguments, by the script `on-host` beside it. Wine does not report the end of such a program, so the script writes
   its exit code to a file. */
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>
#include <windows.h>

/* The arguments as they were written, without the program's name. */
static const wchar_t *arguments(void)
{
    const wchar_t *rest = GetCommandLineW();
    int is_quoted = 0;
    while (*rest && (is_quoted || (*rest != L' ' && *rest != L'\t'))) {
        if (*rest == L'"')
            is_quoted = !is_quoted;
        rest++;
    }
    return rest;
}

int main(void)
{
    static wchar_t program[MAX_PATH], script[MAX_PATH], line[32768], ended[MAX_PATH + 16];
    STARTUPINFOW startup = {.cb = sizeof startup};
    PROCESS_INFORMATION process;
    FILE *code;
    int value = 1;

    GetModuleFileNameW(NULL, program, MAX_PATH);
    wchar_t *name = wcsrchr(program, L'\\');
    *name++ = 0;
    *wcsrchr(name, L'.') = 0;
    swprintf(script, MAX_PATH, L"%ls\\on-host", program);
    swprintf(ended, MAX_PATH + 16, L"%ls\\ended-%lu", program, GetCurrentProcessId());
    swprintf(line, 32768, L"on-host %lu %ls%ls", GetCurrentProcessId(), name, arguments());
    if (!CreateProcessW(script, line, NULL, NULL, TRUE, 0, NULL, NULL, &startup, &process)) {
        fprintf(stderr, "cannot run on-host: error %lu\n", GetLastError());
        return 1;
    }
    while (!(code = _wfopen(ended, L"r")))
        Sleep(10);
    if (fscanf(code, "%d", &value) != 1)
        value = 1;
    fclose(code);
    _wremove(ended);
    return value;
}

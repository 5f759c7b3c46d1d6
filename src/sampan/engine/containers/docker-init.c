/* The init of `docker run --init`: reaps orphans, forwards signals, ends with its child's status.

   docker-init [--] PROGRAM [ARGUMENT...]

   No libc: some thirty lines of system calls make a file of under 2 KiB that runs in any image. Built by
       gcc -Os -static -nostdlib -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -fno-pie -no-pie \
           -fcf-protection=none -Wl,-z,noseparate-code,--build-id=none -s docker-init.c
   and kept as a constant of docker_init.py, because a wheel without a compiler is the promise. */

typedef unsigned long ulong;

enum { WRITE = 1, RT_SIGPROCMASK = 14, IOCTL = 16, GETPID = 39, FORK = 57, EXECVE = 59, EXIT = 60, WAIT4 = 61, KILL = 62,
       SETPGID = 109, RT_SIGTIMEDWAIT = 128 };
enum { SIGCHLD = 17, ENOENT = 2, EACCES = 13, ENOTDIR = 20, WNOHANG = 1, SIG_SETMASK = 2, TIOCSPGRP = 0x5410 };

static long call(long number, ulong a, ulong b, ulong c, ulong d)
{
    long result;
    register ulong r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}

static ulong length(const char *text)
{
    ulong n = 0;
    while (text[n]) n++;
    return n;
}

static void say(const char *text) { call(WRITE, 2, (ulong)text, length(text), 0); }

static const char *path_of(char **env)
{
    for (; *env; env++)
        if ((*env)[0] == 'P' && (*env)[1] == 'A' && (*env)[2] == 'T' && (*env)[3] == 'H' && (*env)[4] == '=') return *env + 5;
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

/* execvp(3): a name with a slash as it is, any other in each directory of PATH. Returns the error to report. */
static long execute(char **argv, char **env)
{
    char full[4096];
    const char *name = argv[0], *path = path_of(env);
    ulong size = length(name), i;
    long error = ENOENT;
    for (i = 0; i < size; i++)
        if (name[i] == '/') return -call(EXECVE, (ulong)name, (ulong)argv, (ulong)env, 0);
    for (;;) {
        ulong n = 0;
        while (path[n] && path[n] != ':') n++;
        if (n + size + 2 < sizeof full) {
            for (i = 0; i < n; i++) full[i] = path[i];
            if (n) full[i++] = '/';
            for (ulong j = 0; j <= size; j++) full[i + j] = name[j];
            long failed = -call(EXECVE, (ulong)full, (ulong)argv, (ulong)env, 0);
            if (failed == EACCES) error = failed;
            else if (failed != ENOENT && failed != ENOTDIR) return failed;
        }
        if (!path[n]) return error;
        path += n + 1;
    }
}

__attribute__((used)) static void run(ulong *stack)
{
    char **argv = (char **)(stack + 1), **env = argv + stack[0] + 1;
    ulong all = ~0ul, before, child;
    argv++;
    if (*argv && (*argv)[0] == '-' && (*argv)[1] == '-' && !(*argv)[2]) argv++;
    if (!*argv) {
        say("docker-init: a program is needed\n");
        call(EXIT, 1, 0, 0, 0);
    }
    /* Blocked signals wait for us in rt_sigtimedwait; unblocked, the kernel would drop them for pid 1. */
    call(RT_SIGPROCMASK, SIG_SETMASK, (ulong)&all, (ulong)&before, 8);
    child = call(FORK, 0, 0, 0, 0);
    if (!child) {
        /* A group of its own in the terminal's foreground, so that Ctrl-C reaches it and not its init as well. */
        int group = (int)call(GETPID, 0, 0, 0, 0);
        call(SETPGID, 0, 0, 0, 0);
        call(IOCTL, 0, TIOCSPGRP, (ulong)&group, 0);
        call(RT_SIGPROCMASK, SIG_SETMASK, (ulong)&before, 0, 8);
        long error = execute(argv, env);
        say("[FATAL docker-init] exec ");
        say(argv[0]);
        say(error == ENOENT ? " failed: No such file or directory\n" : error == EACCES ? " failed: Permission denied\n" : " failed\n");
        call(EXIT, error == ENOENT ? 127 : 126, 0, 0, 0);
    }
    for (;;) {
        long number = call(RT_SIGTIMEDWAIT, (ulong)&all, 0, 0, 8);
        if (number > 0 && number != SIGCHLD) call(KILL, child, number, 0, 0);
        if (number != SIGCHLD) continue;
        for (;;) {
            int status;
            long pid = call(WAIT4, (ulong)-1l, (ulong)&status, WNOHANG, 0);
            if (pid <= 0) break;
            if ((ulong)pid == child) call(EXIT, status & 127 ? 128 + (status & 127) : status >> 8 & 255, 0, 0, 0);
        }
    }
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall run\n");

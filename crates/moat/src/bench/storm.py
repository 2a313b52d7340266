# Lets the kernel take a process's memory away again and again, into swap: a storm of page faults.
# Arguments: process id. Ends with its standard input.
import ctypes, select, sys

PIDFD_OPEN, PROCESS_MADVISE, MADV_PAGEOUT = 434, 440, 21
libc = ctypes.CDLL(None, use_errno=True)
pid = int(sys.argv[1])


class Range(ctypes.Structure):
    _fields_ = [("begin", ctypes.c_void_p), ("length", ctypes.c_size_t)]


fd = libc.syscall(PIDFD_OPEN, pid, 0)
if fd < 0:
    sys.exit("the process cannot be opened")
taken = 0
while not select.select([sys.stdin], [], [], 0.05)[0]:
    for line in open(f"/proc/{pid}/maps"):
        fields = line.split()
        if not fields[1].startswith("rw") or (len(fields) > 5 and fields[5] == "[vvar]"):
            continue
        begin, end = (int(part, 16) for part in fields[0].split("-"))
        bytes = libc.syscall(PROCESS_MADVISE, fd, ctypes.byref(Range(begin, end - begin)), 1,
                             MADV_PAGEOUT, 0)
        taken += max(bytes, 0)
if not taken:
    sys.exit("no memory could be taken away")

"""Calls glibc's resolver functions, all of them, and prints what each call was and gave: a line of JSON each.

Usage: lookups.py LABEL..    looks up LABEL.FUNCTION.ebrec.test. with each function
"""

import ctypes
import json
import os
import sys
import threading
import time

libc = ctypes.CDLL(None)
libc.gethostbyname.restype = ctypes.c_void_p
libc.gethostbyname2.restype = ctypes.c_void_p
libc.__h_errno_location.restype = ctypes.POINTER(ctypes.c_int)
AF_INET = 2


def getaddrinfo(name, service=b"80"):
    result = ctypes.c_void_p()
    return libc.getaddrinfo(name, service, None, ctypes.byref(result))


def h_errno(found):
    return 0 if found else libc.__h_errno_location().contents.value


def reentrant(call, size=1024):
    entry, buffer = ctypes.create_string_buffer(64), ctypes.create_string_buffer(size)
    result, error = ctypes.c_void_p(), ctypes.c_int()
    call(entry, buffer, ctypes.c_size_t(size), ctypes.byref(result), ctypes.byref(error))
    return 0 if result.value else error.value


FUNCTIONS = {
    "getaddrinfo": getaddrinfo,
    "gethostbyname": lambda name: h_errno(libc.gethostbyname(name)),
    "gethostbyname2": lambda name: h_errno(libc.gethostbyname2(name, AF_INET)),
    "gethostbyname_r": lambda name: reentrant(lambda *rest: libc.gethostbyname_r(name, *rest)),
    "gethostbyname2_r": lambda name: reentrant(lambda *rest: libc.gethostbyname2_r(name, AF_INET, *rest)),
}


def look_up(function, call, host, service=None):
    began = time.monotonic_ns()
    ret = call(host)
    took = time.monotonic_ns() - began
    print(
        json.dumps(
            {
                "function": function,
                "host": host.decode() if host is not None else None,
                "service": service,
                "ret": ret,
                "took_ns": took,
                "pid": os.getpid(),
                "tid": threading.get_native_id(),
                "comm": open("/proc/thread-self/comm").read().rstrip("\n"),
            }
        ),
        flush=True,
    )


def all_of(label):
    for function, call in FUNCTIONS.items():
        host = f"{label}.{function.replace('_', '-')}.ebrec.test."
        look_up(function, call, host.encode(), "80" if function == "getaddrinfo" else None)


for label in sys.argv[1:]:
    all_of(label)
# In a thread that isn't the first, names that are none, no host at all, a buffer that is too small.
thread = threading.Thread(target=all_of, args=["thread"])
thread.start()
thread.join()
look_up("getaddrinfo", getaddrinfo, b"192.0.2.7", "80")
look_up("gethostbyname", FUNCTIONS["gethostbyname"], b"192.0.2.8")
look_up("getaddrinfo", getaddrinfo, None, "80")
look_up("getaddrinfo", lambda host: getaddrinfo(host, None), b"x" * 300)
small = lambda name: reentrant(lambda *rest: libc.gethostbyname_r(name, *rest), 1)
look_up("gethostbyname_r", small, b"small.ebrec.test.")

"""An RFC 8998 client through the libssl that PyPI's tongsuopy holds, by ctypes.

client.py PORT SUITE GROUPS NAME: calls 127.0.0.1:PORT from the folder with the certificates, shows
NAME.pem (nothing if NAME is `-`), trusts root-sm2.pem, sends a line and prints what it saw. What
the library has to say of an error goes to stderr, and the exit status is 1.
"""

import ctypes
import importlib.util
import pathlib
import socket
import sys

WAIT_S = 20
# Commands of SSL_CTX_ctrl and SSL_ctrl, and values, as <openssl/ssl.h> has them.
SET_GROUPS_LIST = 92
SET_SIGALGS_LIST = 98
FILETYPE_PEM = 1
VERIFY_PEER = 1
TLS1_3 = 0x0304
SET_MIN_PROTO_VERSION = 123
VERSION_TEXT = 0


def library():
    """Loads the library without the module around it, which wants cffi."""
    folder = pathlib.Path(importlib.util.find_spec("tongsuopy").origin).parent
    (path,) = (folder / "backends").glob("_tongsuo*.so")
    return ctypes.CDLL(str(path))


LIB = library()
for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new", "SSL_get_current_cipher"):
    getattr(LIB, name).restype = ctypes.c_void_p
for name in ("SSL_CIPHER_get_name", "OpenSSL_version", "ERR_reason_error_string"):
    getattr(LIB, name).restype = ctypes.c_char_p
LIB.ERR_get_error.restype = ctypes.c_ulong
LIB.SSL_get_verify_result.restype = ctypes.c_long
LIB.SSL_CTX_ctrl.restype = ctypes.c_long


def need(good, what):
    """Ends with what the library says unless it went well."""
    if good > 0:
        return
    code = LIB.ERR_get_error()
    while code:
        print(LIB.ERR_reason_error_string(ctypes.c_ulong(code)), file=sys.stderr)
        code = LIB.ERR_get_error()
    sys.exit(what)


def context(suite, groups, name):
    """TLS 1.3, this suite, these groups, SM2 signatures, certificates on both sides."""
    ctx = ctypes.c_void_p(LIB.SSL_CTX_new(ctypes.c_void_p(LIB.TLS_client_method())))
    null = ctypes.c_void_p()

    def control(command, number, text):
        need(LIB.SSL_CTX_ctrl(ctx, command, ctypes.c_long(number), text), f"control {command}")

    control(SET_MIN_PROTO_VERSION, TLS1_3, null)
    need(LIB.SSL_CTX_set_ciphersuites(ctx, suite.encode()), "suite")
    control(SET_GROUPS_LIST, 0, groups.encode())
    control(SET_SIGALGS_LIST, 0, b"sm2sig_sm3")
    LIB.SSL_CTX_enable_sm_tls13_strict(ctx)
    alpn = b"\x08http/1.1"
    need(1 - LIB.SSL_CTX_set_alpn_protos(ctx, alpn, len(alpn)), "ALPN")
    if name != "-":
        need(LIB.SSL_CTX_use_certificate_chain_file(ctx, f"{name}.pem".encode()), "certificate")
        need(LIB.SSL_CTX_use_PrivateKey_file(ctx, f"{name}.key".encode(), FILETYPE_PEM), "key")
    need(LIB.SSL_CTX_load_verify_locations(ctx, b"root-sm2.pem", null), "root")
    LIB.SSL_CTX_set_verify(ctx, VERIFY_PEER, null)
    return ctx


def main(port, suite, groups, name):
    """One connection, one line each way."""
    print(LIB.OpenSSL_version(VERSION_TEXT).decode())
    ssl = ctypes.c_void_p(LIB.SSL_new(context(suite, groups, name)))
    stream = socket.create_connection(("127.0.0.1", int(port)))
    # A blocking descriptor, which the library reads and writes by itself.
    stream.settimeout(None)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        wait = WAIT_S.to_bytes(8, sys.byteorder) + bytes(8)
        stream.setsockopt(socket.SOL_SOCKET, option, wait)
    need(LIB.SSL_set_fd(ssl, stream.fileno()), "socket")
    need(LIB.SSL_connect(ssl), "handshake")
    cipher = ctypes.c_void_p(LIB.SSL_get_current_cipher(ssl))
    print(LIB.SSL_CIPHER_get_name(cipher).decode(), "verify", LIB.SSL_get_verify_result(ssl))
    need(LIB.SSL_write(ssl, b"hello\n", 6), "write")
    answer = ctypes.create_string_buffer(64)
    need(LIB.SSL_read(ssl, answer, 64), "read")
    print(answer.value.decode().strip())
    LIB.SSL_shutdown(ssl)


if __name__ == "__main__":
    main(*sys.argv[1:])

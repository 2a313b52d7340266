/* What `moat bench sm` measures beside Moat: OpenSSL or Tongsuo through their public functions.
 *
 * `cargo xtask peers` compiles it, once with each library. It says which it is, a tab, and how the
 * library was compiled; then it reads lines `WORK SIZE SECONDS` and answers each with
 * `RUNS NANOSECONDS`. The one argument is a folder with certificates.
 *
 * Ready before the first run: SM3 and the ciphers are fetched, their contexts allocated, keys of
 * ciphers scheduled, contexts of TLS set up. A signature's context is set up for each message and
 * its digest looked up by name, a handshake's SSL made for each, as programs do. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#ifdef TONGSUO_VERSION_TEXT
# ifdef OPENSSL_NO_EC_SM2P_64_GCC_128
#  error "Tongsuo was built without its fast SM2"
# endif
# define NAME TONGSUO_VERSION_TEXT
#else
# define NAME "OpenSSL " OPENSSL_VERSION_STR
#endif

#define SIZE_MAX_BYTES (16 * 1024)
/* The message that is signed: as long as what a CertificateVerify of TLS 1.3 signs. */
#define MESSAGE_BYTES 130
#define NONCE_BYTES 12
#define TAG_BYTES 16
/* As long as the additional data of a TLS 1.3 record. */
#define AAD_BYTES 5

static const char ID[] = "1234567812345678";
static unsigned char text[SIZE_MAX_BYTES], out[SIZE_MAX_BYTES + 64];
static unsigned char nonce[NONCE_BYTES], aad[AAD_BYTES];

static void need(int good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "%s: %s\n", NAME, what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

/* Hashes. */

static EVP_MD *sm3;
static EVP_MD_CTX *hash;

static void hash_ready(void)
{
    need((sm3 = EVP_MD_fetch(NULL, "SM3", NULL)) != NULL, "SM3");
    need((hash = EVP_MD_CTX_new()) != NULL, "memory");
    need(EVP_DigestInit_ex(hash, sm3, NULL), "digest");
}

static void hash_run(size_t size)
{
    /* The algorithm is that of the context. */
    need(EVP_DigestInit_ex(hash, NULL, NULL) && EVP_DigestUpdate(hash, text, size)
         && EVP_DigestFinal_ex(hash, out, NULL), "digest");
}

/* Sealing: a new nonce each time under one key, in place. */

static EVP_CIPHER_CTX *gcm, *ccm;
/* Seals so far: the last eight bytes of the nonce. */
static uint64_t seals;

static EVP_CIPHER_CTX *cipher_of(const char *name)
{
    unsigned char key[16] = {7};
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

    need(cipher != NULL && ctx != NULL, name);
    need(EVP_EncryptInit_ex(ctx, cipher, NULL, NULL, NULL)
         && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, NONCE_BYTES, NULL), name);
    if (EVP_CIPHER_get_mode(cipher) == EVP_CIPH_CCM_MODE)
        need(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, NULL), name);
    need(EVP_EncryptInit_ex(ctx, NULL, NULL, key, nonce), name);
    return ctx;
}

static void cipher_ready(void)
{
    gcm = cipher_of("SM4-GCM");
    ccm = cipher_of("SM4-CCM");
}

static void seal(EVP_CIPHER_CTX *ctx, size_t size, int is_ccm)
{
    int done, i;

    seals++;
    for (i = 0; i < 8; i++)
        nonce[NONCE_BYTES - 1 - i] = (unsigned char)(seals >> 8 * i);
    need(EVP_EncryptInit_ex(ctx, NULL, NULL, NULL, nonce), "nonce");
    if (is_ccm)
        need(EVP_EncryptUpdate(ctx, NULL, &done, NULL, (int)size), "length");
    need(EVP_EncryptUpdate(ctx, NULL, &done, aad, AAD_BYTES)
         && EVP_EncryptUpdate(ctx, text, &done, text, (int)size)
         && EVP_EncryptFinal_ex(ctx, out, &done)
         && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, out), "seal");
}

static void gcm_run(size_t size) { seal(gcm, size, 0); }
static void ccm_run(size_t size) { seal(ccm, size, 1); }

/* Signatures of a whole message: Z, the digest, and the signature as DER. */

static EVP_PKEY *key;
static EVP_MD_CTX *signing;
static unsigned char signature[128];
static size_t signature_bytes;
static OSSL_PARAM with_id[2];

static void sign_run(size_t size)
{
    (void)size;
    signature_bytes = sizeof(signature);
    need(EVP_DigestSignInit_ex(signing, NULL, "SM3", NULL, NULL, key, with_id)
         && EVP_DigestSign(signing, signature, &signature_bytes, text, MESSAGE_BYTES), "sign");
}

static void verify_run(size_t size)
{
    (void)size;
    need(EVP_DigestVerifyInit_ex(signing, NULL, "SM3", NULL, NULL, key, with_id)
         && EVP_DigestVerify(signing, signature, signature_bytes, text, MESSAGE_BYTES) == 1,
         "verify");
}

static void sign_ready(void)
{
    need((key = EVP_PKEY_Q_keygen(NULL, NULL, "SM2")) != NULL, "key");
    need((signing = EVP_MD_CTX_new()) != NULL, "memory");
    with_id[0] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_DIST_ID, (void *)ID,
                                                   sizeof(ID) - 1);
    with_id[1] = OSSL_PARAM_construct_end();
    sign_run(0);
    verify_run(0);
    text[0] ^= 1;
    need(EVP_DigestVerifyInit_ex(signing, NULL, "SM3", NULL, NULL, key, with_id)
         && EVP_DigestVerify(signing, signature, signature_bytes, text, MESSAGE_BYTES) != 1,
         "a changed message is verified");
    ERR_clear_error();
    text[0] ^= 1;
}

/* Key agreement: product of a secret number and a peer's point, of which x counts. */

static EC_GROUP *curve;
static EC_POINT *theirs, *product;
static BIGNUM *secret, *x;
static BN_CTX *numbers;

static void agree_ready(void)
{
    BIGNUM *other = BN_new();

    need((curve = EC_GROUP_new_by_curve_name(NID_sm2)) != NULL, "curve");
    theirs = EC_POINT_new(curve);
    product = EC_POINT_new(curve);
    secret = BN_secure_new();
    x = BN_new();
    numbers = BN_CTX_new();
    need(theirs && product && secret && x && numbers && other, "memory");
    need(BN_priv_rand_range(secret, EC_GROUP_get0_order(curve))
         && BN_priv_rand_range(other, EC_GROUP_get0_order(curve)), "number");
    BN_set_flags(secret, BN_FLG_CONSTTIME);
    need(EC_POINT_mul(curve, theirs, other, NULL, NULL, numbers), "point");
    BN_free(other);
}

static void agree_run(size_t size)
{
    (void)size;
    need(EC_POINT_mul(curve, product, NULL, theirs, secret, numbers)
         && EC_POINT_get_affine_coordinates(curve, product, x, NULL, numbers)
         && BN_bn2binpad(x, out, 32) == 32, "product");
}

/* Mutual handshakes in memory, both sides here: no resumption, no tickets. */

struct stack {
    const char *suffix, *suites, *groups, *signatures;
    SSL_CTX *server, *client;
};

static struct stack national = {"-sm2", "TLS_SM4_GCM_SM3", "curveSM2", "sm2sig_sm3", NULL, NULL};
/* The group that Moat takes by default; Tongsuo has none with ML-KEM. */
#ifdef TONGSUO_VERSION_TEXT
# define INTERNATIONAL_GROUP "X25519"
#else
# define INTERNATIONAL_GROUP "X25519MLKEM768"
#endif
static struct stack international = {"", "TLS_AES_256_GCM_SHA384", INTERNATIONAL_GROUP,
                                     "ecdsa_secp256r1_sha256", NULL, NULL};
static const char *folder;

static const char *file(const char *name, const struct stack *stack, const char *ending)
{
    static char path[4096];
    int length = snprintf(path, sizeof(path), "%s/%s%s.%s", folder, name, stack->suffix, ending);

    need(length > 0 && (size_t)length < sizeof(path), "the folder's name is too long");
    return path;
}

static SSL_CTX *side(const struct stack *stack, const SSL_METHOD *method, const char *name)
{
    SSL_CTX *ctx = SSL_CTX_new(method);

    need(ctx != NULL, "memory");
    need(SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION)
         && SSL_CTX_set_ciphersuites(ctx, stack->suites)
         && SSL_CTX_set1_groups_list(ctx, stack->groups)
         && SSL_CTX_set1_sigalgs_list(ctx, stack->signatures), "suite, group or signature");
    need(SSL_CTX_use_certificate_chain_file(ctx, file(name, stack, "pem"))
         && SSL_CTX_use_PrivateKey_file(ctx, file(name, stack, "key"), SSL_FILETYPE_PEM)
         && SSL_CTX_load_verify_file(ctx, file("root", stack, "pem")), "certificates");
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    need(SSL_CTX_set_num_tickets(ctx, 0), "tickets");
    return ctx;
}

static void shake(struct stack *stack)
{
    SSL *server = SSL_new(stack->server), *client = SSL_new(stack->client);
    BIO *one, *other;
    int turns, is_open = 1;

    need(server && client && BIO_new_bio_pair(&one, 0, &other, 0), "memory");
    SSL_set_bio(server, one, one);
    SSL_set_bio(client, other, other);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    for (turns = 0; is_open && turns < 16; turns++) {
        int a = SSL_do_handshake(client), b = SSL_do_handshake(server);

        need(a == 1 || SSL_get_error(client, a) == SSL_ERROR_WANT_READ, "client");
        need(b == 1 || SSL_get_error(server, b) == SSL_ERROR_WANT_READ, "server");
        is_open = a != 1 || b != 1;
    }
    need(!is_open && !SSL_session_reused(client) && SSL_get0_peer_certificate(server)
         && SSL_get_verify_result(server) == X509_V_OK
         && SSL_get_verify_result(client) == X509_V_OK
         && strcmp(SSL_get_cipher_name(client), stack->suites) == 0, "handshake");
    SSL_free(server);
    SSL_free(client);
}

static void shake_ready(struct stack *stack)
{
    stack->server = side(stack, TLS_server_method(), "gateway");
    stack->client = side(stack, TLS_client_method(), "teller");
    shake(stack);
}

static void national_run(size_t size) { (void)size; shake(&national); }
static void international_run(size_t size) { (void)size; shake(&international); }

static const struct work {
    const char *name;
    void (*run)(size_t);
    /* Runs between two readings of the clock. */
    int batch;
} WORKS[] = {
    {"sm3", hash_run, 16}, {"sm4-gcm", gcm_run, 16}, {"sm4-ccm", ccm_run, 16},
    {"sm2-sign", sign_run, 4}, {"sm2-verify", verify_run, 4}, {"sm2-ecdh", agree_run, 4},
    {"national", national_run, 1}, {"international", international_run, 1},
};

static double now_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void measure(const struct work *work, size_t size, double seconds)
{
    double begun = now_ns(), took;
    unsigned long runs = 0;
    int i;

    do {
        for (i = 0; i < work->batch; i++)
            work->run(size);
        runs += (unsigned long)work->batch;
        took = now_ns() - begun;
    } while (took < seconds * 1e9);
    printf("%lu %.0f\n", runs, took);
    fflush(stdout);
}

int main(int count, char **words)
{
    char line[128], name[32];
    unsigned long size;
    double seconds;

    need(count == 2, "one argument: the folder with the certificates");
    folder = words[1];
    hash_ready();
    cipher_ready();
    sign_ready();
    agree_ready();
    shake_ready(&national);
    shake_ready(&international);
    printf("%s\t%s\n", NAME, OpenSSL_version(OPENSSL_CFLAGS));
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        const struct work *work = NULL;
        size_t i;

        need(sscanf(line, "%31s %lu %lf", name, &size, &seconds) == 3 && size <= SIZE_MAX_BYTES
             && seconds <= 60, "WORK SIZE SECONDS");
        for (i = 0; i < sizeof(WORKS) / sizeof(WORKS[0]); i++)
            if (strcmp(name, WORKS[i].name) == 0)
                work = &WORKS[i];
        need(work != NULL, "no such work");
        measure(work, size, seconds);
    }
    return 0;
}

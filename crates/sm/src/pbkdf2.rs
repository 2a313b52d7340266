//! PBKDF2 (RFC 8018 §5.2) over HMAC-SM3: keys from passwords, for encrypted key files.

use zeroize::Zeroize;

use crate::hmac::HmacSm3Key;
use crate::sm3::DIGEST_BYTES;

/// Fills `out` from a password. `iterations` of zero count as one.
pub fn derive(password: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) {
    let key = HmacSm3Key::new(password);
    for (number, chunk) in (1_u32..).zip(out.chunks_mut(DIGEST_BYTES)) {
        let mut last = key.sign(&[salt, &number.to_be_bytes()]);
        let mut sum = last;
        for _ in 1..iterations {
            last = key.sign(&[&last]);
            sum.iter_mut().zip(last).for_each(|(sum, byte)| *sum ^= byte);
        }
        chunk.iter_mut().zip(sum).for_each(|(out, byte)| *out = byte);
        last.zeroize();
        sum.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;

    /// From OpenSSL 3.0: `openssl kdf -keylen 40 -kdfopt digest:SM3 -kdfopt pass:password
    /// -kdfopt salt:salt -kdfopt iter:4096 PBKDF2`.
    #[test]
    fn the_key_is_that_of_openssl() {
        let mut out = [0; 40];
        derive(b"password", b"salt", 4096, &mut out);
        let expected =
            "b6e8f2074c87432b78f62e5ced980fdff89e86af2f693dab1638e2b3683045dd844438500eead50c";
        assert_eq!(out[..], hex(expected));
    }
}

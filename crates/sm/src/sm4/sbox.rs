//! The S-box as a circuit on bit planes: plane `k` holds bit `k` of many bytes.
//!
//! The S-box is `A · inverse(A · x + c) + c` in GF(2^8) modulo x^8+x^7+x^6+x^5+x^4+x^2+1. Inverting
//! is cheap in a tower: GF(2^2) by w^2 = w + 1, GF(2^4) by y^2 = y + w, GF(2^8) by z^2 = z + v with
//! v = 9 (w y + 1 in bits). The change of field is linear and is merged with `A` into the two maps
//! below, 24 additions together. The test compares every byte with the table of the standard.

/// Two bits of each of 64 elements: low, high.
type Two = [u64; 2];
type Four = [u64; 4];

/// The S-box on 64 bytes.
#[inline(always)]
pub(crate) fn planes(x: [u64; 8]) -> [u64; 8] {
    from_tower(invert8(into_tower(x)))
}

/// The S-box on the four bytes of a word: the standard's function tau.
pub(crate) fn word(word: u32) -> u32 {
    let mut x = [0; 8];
    for (shift, plane) in x.iter_mut().enumerate() {
        *plane = u64::from(word >> shift) & 0x0101_0101;
    }
    let planes = planes(x).into_iter().enumerate();
    #[expect(clippy::cast_possible_truncation, reason = "four bits, at most in bit 31")]
    planes.fold(0, |sum, (shift, plane)| sum | ((plane & 0x0101_0101) << shift) as u32)
}

#[inline(always)]
fn into_tower([x0, x1, x2, x3, x4, x5, x6, x7]: [u64; 8]) -> [u64; 8] {
    let x8 = x0 ^ x6;
    let x9 = x1 ^ x2;
    let x10 = x4 ^ x5;
    let x11 = x8 ^ x9;
    let x13 = x3 ^ x11;
    [x8 ^ x10, x1 ^ x10, !x5, x5 ^ x11, x4 ^ x11, !x6, !(x2 ^ x7), !(x10 ^ x13)]
}

#[inline(always)]
fn from_tower([y0, y1, y2, y3, y4, y5, y6, y7]: [u64; 8]) -> [u64; 8] {
    let y8 = y0 ^ y6;
    let y9 = y1 ^ y3;
    let y10 = y7 ^ y9;
    let y11 = y4 ^ y8;
    let y12 = y1 ^ y4;
    let y18 = y10 ^ y11;
    [!(y0 ^ y2), !y11, y2 ^ y12, y7 ^ y8, !(y5 ^ y9), y10, !(y12 ^ y0 ^ y5), !(y2 ^ y18)]
}

#[inline(always)]
fn add4(a: Four, b: Four) -> Four {
    [a[0] ^ b[0], a[1] ^ b[1], a[2] ^ b[2], a[3] ^ b[3]]
}

/// (a1 w + a0)(b1 w + b0).
#[inline(always)]
fn mul2([a0, a1]: Two, [b0, b1]: Two) -> Two {
    let low = a0 & b0;
    let cross = (a0 ^ a1) & (b0 ^ b1);
    [low ^ (a1 & b1), cross ^ low]
}

/// (a1 y + a0)(b1 y + b0).
#[inline(always)]
fn mul4([a0, a1, a2, a3]: Four, [b0, b1, b2, b3]: Four) -> Four {
    let [h0, h1] = mul2([a2, a3], [b2, b3]);
    let [l0, l1] = mul2([a0, a1], [b0, b1]);
    let [c0, c1] = mul2([a0 ^ a2, a1 ^ a3], [b0 ^ b2, b1 ^ b3]);
    // w times the high product is [h1, h0 ^ h1].
    [l0 ^ h1, l1 ^ h0 ^ h1, c0 ^ l0, c1 ^ l1]
}

/// 1 / (a1 y + a0) = (a1 y + a1 + a0) / (w a1^2 + a1 a0 + a0^2); in GF(2^2), 1 / x is x^2.
#[inline(always)]
fn invert4([a0, a1, a2, a3]: Four) -> Four {
    let [p0, p1] = mul2([a2, a3], [a0, a1]);
    // w a1^2 is [a3, a2]; a0^2 is [a0 ^ a1, a1].
    let norm = [p0 ^ a3 ^ a0 ^ a1, p1 ^ a2 ^ a1];
    let inverse = [norm[0] ^ norm[1], norm[1]];
    let [h0, h1] = mul2([a2, a3], inverse);
    let [l0, l1] = mul2([a0 ^ a2, a1 ^ a3], inverse);
    [l0, l1, h0, h1]
}

/// The same one floor higher, with v in place of w. Zero goes to zero.
#[inline(always)]
fn invert8([a0, a1, a2, a3, b0, b1, b2, b3]: [u64; 8]) -> [u64; 8] {
    let (low, high) = ([a0, a1, a2, a3], [b0, b1, b2, b3]);
    // v times the square of the high part, and the square of the low part.
    let scaled = [b0 ^ b1 ^ b2 ^ b3, b1 ^ b3, b1, b0];
    let square = [a0 ^ a1 ^ a3, a1 ^ a2, a2 ^ a3, a3];
    let inverse = invert4(add4(add4(scaled, square), mul4(high, low)));
    let [h0, h1, h2, h3] = mul4(high, inverse);
    let [l0, l1, l2, l3] = mul4(add4(high, low), inverse);
    [l0, l1, l2, l3, h0, h1, h2, h3]
}

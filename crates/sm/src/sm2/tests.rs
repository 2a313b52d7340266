//! The examples of the standard, the edges of scalars and points, wrong signatures, and another
//! implementation on random inputs.

use sm2::elliptic_curve::ops::{MulVartime, Reduce};
use sm2::elliptic_curve::sec1::ToSec1Point;
use sm2::{FieldBytes, ProjectivePoint, Scalar as OtherScalar};

use super::curve::{Affine, G, Jacobian};
use super::scalar::{N, Scalar};
use super::*;
use crate::cpu::Cpu;
use crate::error::Error;
use crate::testing::{bytes, cases, hex, hex_array, random};

/// GB/T 32918.5 appendix A.
const D: &str = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8";
const P: &str = "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020\
                 ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13";
const K: &str = "59276e27d506861a16680f3ad9c02dccef3cc1fa3cdbe4ce6d54b80deac1bc21";

fn key() -> SecretKey {
    SecretKey::from_bytes(&hex_array(D)).expect("in range")
}

fn scalar(text: &str) -> Scalar {
    Scalar::from_bytes(&hex_array(text)).expect("below n")
}

/// n plus a small number, as bytes.
fn near_n(plus: i64) -> [u8; 32] {
    let [low, rest @ ..] = N;
    let low = low.checked_add_signed(plus).expect("no carry");
    limb::to_bytes([low, rest[0], rest[1], rest[2]])
}

fn small(n: u64) -> [u8; 32] {
    limb::to_bytes([n, 0, 0, 0])
}

/// Scalars at the edges of ranges and windows, and some others.
fn scalars(random_count: u64) -> Vec<[u8; 32]> {
    let mut scalars = vec![[0x55; 32], [0xaa; 32], hex_array(K)];
    scalars.extend((1..70).map(small));
    scalars.extend((1..70).map(|n| near_n(-n)));
    for bit in 0..256 {
        let mut limbs = [0; 4];
        limbs[bit / 64] = 1 << (bit % 64);
        scalars.push(limb::to_bytes(limbs));
        let (less, _) = limb::sub(limbs, [1, 0, 0, 0]);
        scalars.push(limb::to_bytes(less));
    }
    scalars.extend((0..random_count).map(random::<32>));
    scalars.retain(|bytes| Scalar::from_bytes_not_zero(bytes).is_some());
    if cfg!(miri) { scalars.into_iter().step_by(200).collect() } else { scalars }
}

fn other(scalar: &Scalar) -> OtherScalar {
    OtherScalar::reduce(&FieldBytes::from(scalar.to_bytes()))
}

fn other_bytes(point: ProjectivePoint) -> Vec<u8> {
    point.to_affine().to_sec1_point(false).as_bytes().to_vec()
}

#[test]
fn the_signature_of_the_standard() {
    let key = key();
    assert_eq!(key.public().as_bytes()[..], hex(P));
    let identity = key.public().identity(DEFAULT_ID).expect("short");
    let z = "b2e14c5c79c6df5b85f4fe7ed8db7a262b9da7e07ccb0ea9f4747b8ccda8a4f3";
    assert_eq!(identity.as_bytes()[..], hex(z));
    let digest = identity.digest(b"message digest");
    let e = "f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640";
    assert_eq!(digest[..], hex(e));
    let signature = key.sign_with(&digest, &scalar(K)).expect("usable");
    let expected = "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3\
                    b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa";
    assert_eq!(signature.to_bytes()[..], hex(expected));
    assert_eq!(key.public().verify(DEFAULT_ID, b"message digest", &signature), Ok(()));
}

#[test]
fn the_ciphertext_of_the_standard() {
    let key = key();
    let text = b"encryption standard";
    let cipher = key.public().encrypt_with(text, &scalar(K)).expect("usable");
    let expected = "0404ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73\
                    e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0\
                    59983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766\
                    21886ca989ca9c7d58087307ca93092d651efa";
    assert_eq!(cipher, hex(expected));
    assert_eq!(key.decrypt(&cipher).expect("own")[..], *text);
}

#[test]
fn every_edge_of_the_scalars_gives_the_right_point() {
    for bytes in scalars(cases(50, 100)) {
        let k = Scalar::from_bytes_not_zero(&bytes).expect("kept");
        let expected = other_bytes(ProjectivePoint::GENERATOR.mul_vartime(&other(&k)));
        for cpu in Cpu::all() {
            let point = Jacobian::multiply_base(cpu, &k).to_affine();
            assert_eq!(point.to_bytes()[..], expected[..], "base {bytes:02x?}");
        }
        let point = Jacobian::multiply(G, &k).to_affine();
        assert_eq!(point.to_bytes()[..], expected[..], "variable {bytes:02x?}");
        for (a, b) in [(k, scalar(K)), (scalar(K), k)] {
            let sum = Jacobian::multiply_both_vartime(&a, &b, G);
            let expected = ProjectivePoint::GENERATOR.mul_vartime(&other(&a.add(b)));
            assert_eq!(sum.to_affine().to_bytes()[..], other_bytes(expected)[..]);
        }
        // k G + (n - k) G is infinity, and k G + k G a doubling.
        let minus = Scalar::from_bytes(&small(0)).expect("zero").sub(k);
        assert!(Jacobian::multiply_both_vartime(&k, &minus, G).is_infinity());
        let twice = Jacobian::multiply_both_vartime(&k, &k, G).to_affine();
        let expected = ProjectivePoint::GENERATOR.mul_vartime(&other(&k.add(k)));
        assert_eq!(twice.to_bytes()[..], other_bytes(expected)[..]);
    }
}

#[test]
fn zero_times_a_point_is_infinity() {
    let zero = Scalar::from_bytes(&small(0)).expect("zero");
    for cpu in Cpu::all() {
        assert!(Jacobian::multiply_base(cpu, &zero).is_infinity());
    }
    assert!(Jacobian::multiply_both_vartime(&zero, &zero, G).is_infinity());
    assert!(Jacobian::INFINITY.double().is_infinity());
    assert!(!Jacobian::INFINITY.to_affine().is_on_curve());
    let sum = Jacobian::INFINITY.add_affine_vartime(G).to_affine();
    assert_eq!(sum.to_bytes(), G.to_bytes());
    let opposite = Affine { x: G.x, y: G.y.neg() };
    assert!(G.to_jacobian().add_affine_vartime(opposite).is_infinity());
    let (sum, twice) = (G.to_jacobian().add_affine_vartime(G), G.to_jacobian().double());
    assert_eq!(sum.to_affine().to_bytes(), twice.to_affine().to_bytes());
}

#[test]
fn field_and_scalars_keep_their_laws_at_the_edges() {
    let near_p = |minus: u64| limb::sub(field::P, [minus, 0, 0, 0]).0;
    let two_256_less = |minus: u64| limb::sub([0; 4], [minus, 0, 0, 0]).0;
    let mut raw: Vec<limb::Limbs> = (0..4).map(|n| [n, 0, 0, 0]).collect();
    raw.extend((0..4).map(near_p));
    // Stored numbers may be above p.
    raw.extend((1..4).map(two_256_less));
    raw.extend([[0, 0, 0, u64::MAX], [u64::MAX, 0, 0, 0], [0, u64::MAX, 0, 0], [1, 0, 1 << 63, 0]]);
    raw.extend((0..cases(20, 100)).map(|seed| limb::from_bytes(&random(seed))));
    let elements: Vec<field::Fe> = raw.into_iter().map(field::Fe::from_raw).collect();
    let is = |a: field::Fe, b: field::Fe| assert!(a.equals(b) && a.to_limbs() == b.to_limbs());
    for &a in &elements {
        assert!(limb::is_less(a.to_limbs(), field::P));
        is(field::Fe::from_limbs(a.to_limbs()), a);
        is(a.square(), a.mul(a));
        is(a.add(a.neg()), field::Fe::ZERO);
        assert!(a.sub(a).is_zero() != 0);
        let inverse = a.invert();
        if a.is_zero() == 0 {
            is(a.mul(inverse), field::Fe::ONE);
        } else {
            is(inverse, field::Fe::ZERO);
        }
        for &b in elements.iter().take(20) {
            is(a.sub(b).add(b), a);
            is(a.add(b).sub(a), b);
            is(a.mul(b), b.mul(a));
            is(a.add(b).square(), a.square().add(a.mul(b).double()).add(b.square()));
        }
    }
    let zero = Scalar::from_bytes(&small(0)).expect("zero");
    assert!(zero.invert().is_zero());
    for bytes in scalars(cases(20, 100)) {
        let a = Scalar::from_bytes(&bytes).expect("kept");
        let by_other = other(&a) * other(&scalar(K));
        assert_eq!(a.mul(scalar(K)).to_bytes()[..], by_other.to_bytes()[..]);
        assert_eq!(a.mul(a.invert()).to_bytes(), Scalar::ONE.to_bytes());
        assert_eq!(a.sub(a).to_bytes(), zero.to_bytes());
        assert!(a.add(zero.sub(a)).is_zero());
    }
    assert!(Scalar::from_bytes(&near_n(0)).is_none());
    assert!(Scalar::from_bytes(&[0xff; 32]).is_none());
    assert!(Scalar::reduced_bytes(&near_n(0)).is_zero());
    assert_eq!(Scalar::reduced_bytes(&near_n(5)).to_bytes(), small(5));
}

#[test]
fn a_private_key_is_from_one_to_n_minus_two() {
    for good in [small(1), small(2), near_n(-2), near_n(-3)] {
        let key = SecretKey::from_bytes(&good).expect("in range");
        assert_eq!(*key.to_bytes(), good);
        let signature = key.sign(DEFAULT_ID, b"m", &[1; 32]).expect("entropy");
        assert_eq!(key.public().verify(DEFAULT_ID, b"m", &signature), Ok(()));
    }
    for bad in [small(0), near_n(-1), near_n(0), near_n(1), [0xff; 32]] {
        assert_eq!(SecretKey::from_bytes(&bad).err(), Some(Error::Scalar));
    }
}

#[test]
fn a_point_is_of_the_curve_and_uncompressed() {
    let good = hex(P);
    assert!(PublicKey::from_bytes(&good).is_ok());
    for tag in (0..=u8::MAX).filter(|tag| *tag != 4) {
        let mut bad = good.clone();
        bad[0] = tag;
        assert_eq!(PublicKey::from_bytes(&bad), Err(Error::Point));
    }
    for bit in 8..65 * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(PublicKey::from_bytes(&bad), Err(Error::Point), "{bit}");
    }
    for length in (0..good.len()).chain([66, 130]) {
        let mut bad = good.clone();
        bad.resize(length, 0);
        assert_eq!(PublicKey::from_bytes(&bad), Err(Error::Point));
    }
    assert_eq!(PublicKey::from_bytes(&[0]), Err(Error::Point), "infinity");
    assert_eq!(PublicKey::from_bytes(&[&[4][..], &[0; 64]].concat()), Err(Error::Point));
    // x + p is the same x, and not its canonical form: x = 0 or small, with p added.
    let p = limb::to_bytes(field::P);
    for x in 0..30_u64 {
        let bytes = limb::to_bytes(limb::add(field::P, [x, 0, 0, 0]).0);
        assert_eq!(PublicKey::from_bytes(&[&[4][..], &bytes, &p].concat()), Err(Error::Point));
    }
}

#[test]
fn signatures_verify_and_bind_everything() {
    let key = key();
    let public = key.public();
    let signature = key.sign(TLS13_ID, b"message", &random(1)).expect("entropy");
    assert_eq!(public.verify(TLS13_ID, b"message", &signature), Ok(()));
    let wrong = Err(Error::Signature);
    assert_eq!(public.verify(DEFAULT_ID, b"message", &signature), wrong);
    assert_eq!(public.verify(TLS13_ID, b"massage", &signature), wrong);
    let stranger = SecretKey::generate(&random(2)).expect("entropy");
    assert_eq!(stranger.public().verify(TLS13_ID, b"message", &signature), wrong);
    let bytes = signature.to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes;
        changed[bit / 8] ^= 1 << (bit % 8);
        let changed = Signature::from_bytes(&changed);
        assert_eq!(public.verify(TLS13_ID, b"message", &changed), wrong, "{bit}");
    }
    assert_eq!(public.verify(&[0; 8192], b"", &signature), Err(Error::Identity));
    assert!(public.identity(&[0; 8191]).is_ok());
}

#[test]
fn numbers_at_the_edges_are_no_signature() {
    let key = key();
    let digest = random(3);
    let edges = [
        small(0),
        small(1),
        small(2),
        near_n(-2),
        near_n(-1),
        near_n(0),
        near_n(1),
        limb::to_bytes(field::P),
        [0xff; 32],
        digest,
    ];
    for r in edges {
        for s in edges {
            let wrong = Err(Error::Signature);
            assert_eq!(key.public().verify_digest(&digest, &Signature { r, s }), wrong);
        }
    }
    // r + n and s + n are equal modulo n, but out of range; r and s swapped are another signature.
    let signature = key.sign_digest(&digest, &random(4)).expect("entropy");
    let Signature { r, s } = signature;
    assert_eq!(key.public().verify_digest(&digest, &signature), Ok(()));
    for (r, s) in [(s, r), (plus_n(&r), s), (r, plus_n(&s)), (minus(&r), s), (r, minus(&s))] {
        let signature = Signature { r, s };
        assert_eq!(key.public().verify_digest(&digest, &signature), Err(Error::Signature));
    }
}

/// Modulo 2^256, so that it is above n or another number.
fn plus_n(bytes: &[u8; 32]) -> [u8; 32] {
    limb::to_bytes(limb::add(limb::from_bytes(bytes), N).0)
}

fn minus(bytes: &[u8; 32]) -> [u8; 32] {
    limb::to_bytes(limb::sub(N, limb::from_bytes(bytes)).0)
}

/// Where x of the nonce's point is n or more, r - e must be tried with n added. Such points are too
/// rare to meet; so the signature is worked out backwards from one.
#[test]
fn an_x_above_n_verifies() {
    // A point with x >= n: the first such x on the curve.
    let three = field::Fe::ONE.double().add(field::Fe::ONE);
    let b = G.y.square().sub(G.x.square().sub(three).mul(G.x));
    let (quarter, _) = limb::add(field::P, [1, 0, 0, 0]);
    let quarter = [
        quarter[0] >> 2 | quarter[1] << 62,
        quarter[1] >> 2 | quarter[2] << 62,
        quarter[2] >> 2 | quarter[3] << 62,
        quarter[3] >> 2,
    ];
    let root = |y2: field::Fe| {
        (0..256).rev().fold(field::Fe::ONE, |power, bit| {
            let square = power.square();
            if quarter[bit / 64] >> (bit % 64) & 1 == 1 { square.mul(y2) } else { square }
        })
    };
    let (x, kg) = (0_u64..)
        .find_map(|n| {
            let x = limb::add(N, [n, 0, 0, 0]).0;
            let fe = field::Fe::from_limbs(x);
            let y = root(fe.square().sub(three).mul(fe).add(b));
            let point = Affine { x: fe, y };
            point.is_on_curve().then_some((x, point))
        })
        .expect("every second x");
    // With any s and t, P = (kG - s G) / t has that signature over e = r - x.
    let (s, t) = (scalar(K), scalar(D));
    let minus_sg = Jacobian::multiply_base(Cpu::PORTABLE, &s).to_affine();
    let minus_sg = Affine { x: minus_sg.x, y: minus_sg.y.neg() };
    let difference = kg.to_jacobian().add_affine_vartime(minus_sg).to_affine();
    let point = Jacobian::multiply(difference, &t.invert()).to_affine();
    let public = PublicKey::from_bytes(&point.to_bytes()).expect("on the curve");
    let r = t.sub(s);
    let digest = r.sub(Scalar::reduced(x)).to_bytes();
    let signature = Signature { r: r.to_bytes(), s: s.to_bytes() };
    assert_eq!(public.verify_digest(&digest, &signature), Ok(()));
}

#[test]
fn nonces_depend_on_entropy_key_and_message() {
    let key = key();
    let (a, b) = (random(1), random(2));
    let sign =
        |key: &SecretKey, digest, entropy| key.sign_digest(digest, entropy).expect("entropy");
    let first = sign(&key, &a, &[0; 32]);
    assert_eq!(first, sign(&key, &a, &[0; 32]), "a function of its arguments");
    assert_ne!(first, sign(&key, &a, &[1; 32]));
    // k = (s (1 + d) + r d): with equal entropy, another message has another k.
    let nonce = |signature: &Signature| {
        let [r, s] = [signature.r, signature.s].map(|x| Scalar::from_bytes(&x).expect("own"));
        s.mul(key.d.add(Scalar::ONE)).add(r.mul(key.d)).to_bytes()
    };
    assert_ne!(nonce(&first), nonce(&sign(&key, &b, &[0; 32])));
    assert_ne!(nonce(&first), nonce(&sign(&key, &a, &[1; 32])));
}

#[test]
fn both_sides_agree_on_a_secret() {
    let (a, b) = (Ephemeral::generate(&random(1)), Ephemeral::generate(&random(2)));
    let (a, b) = (a.expect("entropy"), b.expect("entropy"));
    let (of_a, of_b) = (*a.share(), *b.share());
    assert_ne!(of_a, of_b);
    let at_a = a.agree(&of_b).expect("on the curve");
    let at_b = b.agree(&of_a).expect("on the curve");
    assert_eq!(at_a.as_bytes(), at_b.as_bytes());
    assert_eq!(format!("{at_a:?}"), "SharedSecret { .. }");
    let one = SecretKey::from_bytes(&small(1)).expect("in range");
    let public = PublicKey::from_bytes(&of_a).expect("on the curve");
    assert_eq!(one.agree(&public).as_bytes()[..], of_a[1..33], "one times a point");
    for bad in [&[0][..], &[0; 65], &of_a[..64], &[&of_a[..], &[0]].concat()] {
        let side = Ephemeral::generate(&random(3)).expect("entropy");
        assert_eq!(side.agree(bad).err(), Some(Error::Point));
    }
}

#[test]
fn random_keys_agree_with_another_implementation() {
    use sm2::dsa::signature::Verifier;
    use sm2::elliptic_curve::sec1::FromSec1Point;
    for seed in 0..cases(20, 50) {
        let key = SecretKey::generate(&random(seed)).expect("entropy");
        let secret = sm2::SecretKey::from_slice(&*key.to_bytes()).expect("in range");
        let public = secret.public_key();
        assert_eq!(public.to_sec1_point(false).as_bytes(), key.public().as_bytes());
        // Theirs and ours verify both.
        let message = bytes(seed, (seed % 200) as usize);
        let ours = key.sign(DEFAULT_ID, &message, &random(seed + 1)).expect("entropy");
        let id = "1234567812345678";
        let verifier = sm2::dsa::VerifyingKey::new(id, public).expect("short");
        let other = sm2::dsa::Signature::from_slice(&ours.to_bytes()).expect("in range");
        assert!(verifier.verify(&message, &other).is_ok());
        let signer = sm2::dsa::SigningKey::new(id, &secret).expect("short");
        let theirs = sm2::dsa::signature::Signer::sign(&signer, &message);
        let theirs = Signature::from_bytes(&theirs.to_bytes().into());
        assert_eq!(key.public().verify(DEFAULT_ID, &message, &theirs), Ok(()));
        // A product with a random point.
        let peer = SecretKey::generate(&random(seed + 2)).expect("entropy");
        let point = sm2::PublicKey::from_sec1_bytes(peer.public().as_bytes()).expect("point");
        let product = point.to_projective().mul_vartime(secret.to_nonzero_scalar().as_ref());
        let expected = &other_bytes(product)[1..33];
        assert_eq!(key.agree(peer.public()).as_bytes()[..], expected[..]);
        let point = sm2::AffinePoint::from_sec1_point(&public.to_sec1_point(false));
        assert!(bool::from(point.is_some()));
    }
}

#[test]
fn texts_of_every_length_decrypt_and_changed_ones_do_not() {
    let key = key();
    for length in [1, 2, 3, 31, 32, 33, 64, 100, 1000] {
        let text = bytes(1, length);
        let cipher = key.public().encrypt(&text, &random(2)).expect("entropy");
        assert_eq!(cipher.len(), OVERHEAD_BYTES + length);
        assert_eq!(key.decrypt(&cipher).expect("own")[..], text);
    }
    let cipher = key.public().encrypt(b"text", &random(2)).expect("entropy");
    for bit in 0..cipher.len() * 8 {
        let mut changed = cipher.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(key.decrypt(&changed).err(), Some(Error::Decrypt), "{bit}");
    }
    for length in 0..cipher.len() {
        assert_eq!(key.decrypt(&cipher[..length]).err(), Some(Error::Decrypt));
    }
    assert_eq!(key.public().encrypt(b"", &random(2)).err(), Some(Error::Length));
    let long = vec![0; TEXT_BYTES_MAX + 1];
    assert_eq!(key.public().encrypt(&long, &random(2)).err(), Some(Error::TooLong));
}

#[test]
fn a_debug_text_shows_no_secret() {
    let key = key();
    assert_eq!(format!("{key:?}"), "SecretKey { public: PublicKey { .. }, .. }");
    let side = Ephemeral::generate(&random(1)).expect("entropy");
    assert_eq!(format!("{side:?}"), "Ephemeral { .. }");
}

//! The curve y^2 = x^3 - 3 x + b (GB/T 32918.5 §2), its points and the formulas to add them.
//!
//! Sums are in Jacobian coordinates: (X, Y, Z) is (X / Z^2, Y / Z^3), and Z = 0 is infinity. The
//! formulas are those of the EFD (dbl-2001-b, add-2007-bl with the cubes kept). The build script
//! uses this file too, to make the table of multiples of the base point.

use super::field::Fe;

/// Bytes of an uncompressed point (GB/T 32918.1 §4.2.9).
pub const POINT_BYTES: usize = 65;

/// The coefficient b.
const B: Fe = Fe::from_limbs([
    0xddbc_bd41_4d94_0e93,
    0xf397_89f5_15ab_8f92,
    0x4d5a_9e4b_cf65_09a7,
    0x28e9_fa9e_9d9f_5e34,
]);

/// A point other than infinity.
#[derive(Clone, Copy, Default)]
pub(super) struct Affine {
    pub(super) x: Fe,
    pub(super) y: Fe,
}

/// Any point.
#[derive(Clone, Copy, Default)]
pub(super) struct Jacobian {
    pub(super) x: Fe,
    pub(super) y: Fe,
    pub(super) z: Fe,
}

/// The base point.
#[allow(dead_code, reason = "the build script and tests use it")]
pub(super) const G: Affine = Affine {
    x: Fe::from_limbs([
        0x715a_4589_334c_74c7,
        0x8fe3_0bbf_f266_0be1,
        0x5f99_0446_6a39_c994,
        0x32c4_ae2c_1f19_8119,
    ]),
    y: Fe::from_limbs([
        0x02df_32e5_2139_f0a0,
        0xd0a9_877c_c62a_4740,
        0x59bd_cee3_6b69_2153,
        0xbc37_36a2_f4f6_779c,
    ]),
};

impl Affine {
    /// GB/T 32918.1 §4.2.10: only the uncompressed form, only points of the curve. The group has
    /// prime order, so a point of the curve is one of the group.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; POINT_BYTES] = bytes.try_into().ok()?;
        let (tag, xy) = bytes.split_first()?;
        let (x, y) = xy.split_at(32);
        let point =
            Self { x: Fe::from_bytes(x.try_into().ok()?)?, y: Fe::from_bytes(y.try_into().ok()?)? };
        (*tag == 4 && point.is_on_curve()).then_some(point)
    }

    pub(super) fn to_bytes(self) -> [u8; POINT_BYTES] {
        let mut bytes = [4; POINT_BYTES];
        bytes[1..33].copy_from_slice(&self.x.to_bytes());
        bytes[33..].copy_from_slice(&self.y.to_bytes());
        bytes
    }

    pub(super) fn is_on_curve(&self) -> bool {
        let three = Fe::ONE.double().add(Fe::ONE);
        let right = self.x.square().sub(three).mul(self.x).add(B);
        self.y.square().equals(right)
    }

    pub(super) const fn to_jacobian(self) -> Jacobian {
        Jacobian { x: self.x, y: self.y, z: Fe::ONE }
    }
}

impl Jacobian {
    pub(super) const INFINITY: Self = Self { x: Fe::ONE, y: Fe::ONE, z: Fe::ZERO };

    pub(super) fn is_infinity(&self) -> bool {
        self.z.is_zero() != 0
    }

    /// The affine point; infinity gives (0, 0), which is not on the curve.
    pub(super) const fn to_affine(self) -> Affine {
        let inverse = self.z.invert();
        let square = inverse.square();
        Affine { x: self.x.mul(square), y: self.y.mul(square.mul(inverse)) }
    }

    /// The affine x; infinity gives zero.
    pub(super) const fn to_affine_x(self) -> Fe {
        self.x.mul(self.z.invert().square())
    }

    /// Twice the point. Holds for infinity too; there is no point of order two.
    #[inline(always)]
    pub(super) const fn double(self) -> Self {
        let delta = self.z.square();
        let gamma = self.y.square();
        let beta4 = self.x.mul(gamma).double().double();
        let alpha = self.x.sub(delta).mul(self.x.add(delta));
        let alpha = alpha.double().add(alpha);
        let x = alpha.square().sub(beta4.double());
        let z = self.y.mul(self.z).double();
        let gamma2 = gamma.double().square().double();
        let y = alpha.mul(beta4.sub(x)).sub(gamma2);
        Self { x, y, z }
    }

    /// The end of every addition: `u`, `s` are this point's coordinates on the common denominator,
    /// `h`, `r` the differences to the other's, `z` the product of the Zs.
    #[inline(always)]
    pub(super) const fn sum(u: Fe, s: Fe, h: Fe, r: Fe, z: Fe) -> Self {
        let hh = h.square();
        let hhh = hh.mul(h);
        let v = u.mul(hh);
        let x = r.square().sub(hhh).sub(v.double());
        Self { x, y: r.mul(v.sub(x)).sub(s.mul(hhh)), z: z.mul(h) }
    }

    /// The sum with an affine point. Wrong if this is infinity or the same point.
    #[inline(always)]
    pub(super) const fn add_affine_unequal(self, other: Affine) -> Self {
        let zz = self.z.square();
        let h = other.x.mul(zz).sub(self.x);
        let r = other.y.mul(zz.mul(self.z)).sub(self.y);
        Self::sum(self.x, self.y, h, r, self.z)
    }
}

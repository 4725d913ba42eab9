//! Types and state spaces.

/// How the bits of a value are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Bits, `.b`.
    Bits,
    /// Unsigned integers, `.u`.
    Unsigned,
    /// Signed integers, `.s`.
    Signed,
    /// Binary floating point, `.f`.
    Float,
}

/// A type of more than one bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type {
    /// How its bits are read.
    pub family: Family,
    /// 8, 16, 32 or 64.
    pub bits: u8,
}

impl Type {
    /// Reads a type without its dot, as `u32`.
    pub fn named(name: &str) -> Option<Self> {
        let (family, bits) = name.split_at_checked(1)?;
        let family = match family {
            "b" => Family::Bits,
            "u" => Family::Unsigned,
            "s" => Family::Signed,
            "f" => Family::Float,
            _ => return None,
        };
        let bits = match bits {
            "8" if family != Family::Float => 8,
            "16" if family != Family::Float => 16,
            "32" => 32,
            "64" => 64,
            _ => return None,
        };
        Some(Self { family, bits })
    }

    /// Returns how many bytes it takes.
    pub const fn bytes(self) -> usize {
        self.bits as usize / 8
    }

    /// Tells whether it is a signed integer.
    pub fn is_signed(self) -> bool {
        self.family == Family::Signed
    }

    /// Tells whether it is floating point.
    pub fn is_float(self) -> bool {
        self.family == Family::Float
    }
}

/// Where memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// An address says by itself which memory is meant.
    Generic,
    /// The device's memory, and the constant tables of the module.
    Global,
    /// What a block has.
    Shared,
    /// What a thread has.
    Local,
    /// The parameters of the launch.
    Parameter,
}

impl Space {
    /// Reads a space without its dot.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "global" => Self::Global,
            "shared" => Self::Shared,
            "local" => Self::Local,
            "param" => Self::Parameter,
            _ => return None,
        })
    }
}

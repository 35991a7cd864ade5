//! The shape of the table of error codes: one row is a variant, its number and its meaning. It must not know a code. The
//! invariant: a code has all three.

/// An enum, its variants in order, and what each means.
macro_rules! codes {
    ($($variant:ident = $code:literal, $meaning:literal;)*) => {
        /// What failed, as a number that never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $meaning] $variant = $code,)*
        }

        impl ErrorCode {
            /// Every code, in ascending order.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// The variant's name.
            pub fn name(self) -> &'static str {
                match self { $(ErrorCode::$variant => stringify!($variant),)* }
            }

            /// What it means, independent of the particular case.
            pub fn meaning(self) -> &'static str {
                match self { $(ErrorCode::$variant => $meaning,)* }
            }
        }
    };
}

pub(super) use codes;

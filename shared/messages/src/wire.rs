//! Domain values to Protobuf fields and back.
//!
//! Invariants: reading is strict: an absent field, a wrong length, an unknown enum value or an unset choice is a [`Fault`], never a
//! default. Writing is deterministic. Deliberately absent: any meaning; whether a message makes sense is its reader's question.

use custos_domain::{
    AccountId, Amount, AssetId, BlockHash, ChainId, CommandId, Digest, EthAddress, IdempotencyKey, IntentId, Millis,
    NodeName, OfficerId, SagaId, TenantId, Timestamp, TxHash, WalletId,
};

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field's wire name; empty until the reader of the field names it.
    pub field: &'static str,
    /// What is wrong.
    pub problem: &'static str,
}

impl Fault {
    /// A fault of a field that its reader will name.
    #[must_use]
    pub const fn new(problem: &'static str) -> Self {
        Self { field: "", problem }
    }

    /// The same fault, of `field` unless an inner field is already named.
    #[must_use]
    pub const fn of(self, field: &'static str) -> Self {
        if self.field.is_empty() { Self { field, problem: self.problem } } else { self }
    }
}

/// A value with a Protobuf form.
pub trait Wire: Sized {
    /// The form.
    type Proto;
    /// Writes it.
    fn put(&self) -> Self::Proto;
    /// Reads it.
    ///
    /// # Errors
    /// The first field that is absent or holds what it may not.
    fn take(proto: Self::Proto) -> Result<Self, Fault>;
}

/// A field of a message: mandatory, optional or repeated, as its type says.
pub trait Field<P>: Sized {
    /// Writes it.
    fn put_field(&self) -> P;
    /// Reads it; `name` is its wire name.
    ///
    /// # Errors
    /// It is absent or holds what it may not.
    fn take_field(proto: P, name: &'static str) -> Result<Self, Fault>;
}

impl<T: Wire> Field<Option<T::Proto>> for T {
    fn put_field(&self) -> Option<T::Proto> {
        Some(self.put())
    }

    fn take_field(proto: Option<T::Proto>, name: &'static str) -> Result<Self, Fault> {
        proto.ok_or(Fault::new("is absent")).and_then(T::take).map_err(|fault| fault.of(name))
    }
}

impl<T: Wire> Field<Option<T::Proto>> for Option<T> {
    fn put_field(&self) -> Option<T::Proto> {
        self.as_ref().map(T::put)
    }

    fn take_field(proto: Option<T::Proto>, name: &'static str) -> Result<Self, Fault> {
        proto.map(T::take).transpose().map_err(|fault| fault.of(name))
    }
}

impl<T: Wire> Field<Vec<T::Proto>> for Vec<T> {
    fn put_field(&self) -> Vec<T::Proto> {
        self.iter().map(T::put).collect()
    }

    fn take_field(proto: Vec<T::Proto>, name: &'static str) -> Result<Self, Fault> {
        proto.into_iter().map(|item| T::take(item).map_err(|fault| fault.of(name))).collect()
    }
}

impl<T: Wire> Wire for Box<T> {
    type Proto = T::Proto;

    fn put(&self) -> T::Proto {
        T::put(self)
    }

    fn take(proto: T::Proto) -> Result<Self, Fault> {
        T::take(proto).map(Self::new)
    }
}

macro_rules! plain {
    ($($type:ty),*) => { $(
        impl Wire for $type {
            type Proto = Self;
            fn put(&self) -> Self {
                self.clone()
            }
            fn take(proto: Self) -> Result<Self, Fault> {
                Ok(proto)
            }
        }
    )* };
}

macro_rules! number {
    ($($type:ident),*) => { $(
        impl Wire for $type {
            type Proto = u64;
            fn put(&self) -> u64 {
                self.0
            }
            fn take(proto: u64) -> Result<Self, Fault> {
                Ok(Self(proto))
            }
        }
    )* };
}

macro_rules! fixed {
    ($($type:ident),*) => { $(
        impl Wire for $type {
            type Proto = Vec<u8>;
            fn put(&self) -> Vec<u8> {
                self.0.to_vec()
            }
            fn take(proto: Vec<u8>) -> Result<Self, Fault> {
                exactly(&proto).map(Self)
            }
        }
    )* };
}

macro_rules! name {
    ($($type:ident),*) => { $(
        impl Wire for $type {
            type Proto = String;
            fn put(&self) -> String {
                self.as_str().to_owned()
            }
            fn take(proto: String) -> Result<Self, Fault> {
                Self::new(&proto).map_err(|_| Fault::new("is not a name of its kind"))
            }
        }
    )* };
}

plain!(u32, u64, bool, String, Vec<u8>);
number!(Timestamp, Millis);
fixed!(AccountId, WalletId, IntentId, CommandId, Digest, TxHash, BlockHash, EthAddress);
name!(TenantId, OfficerId, NodeName, IdempotencyKey, AssetId, ChainId);

impl<const N: usize> Wire for [u8; N] {
    type Proto = Vec<u8>;

    fn put(&self) -> Vec<u8> {
        self.to_vec()
    }

    fn take(proto: Vec<u8>) -> Result<Self, Fault> {
        exactly(&proto)
    }
}

impl Wire for Amount {
    type Proto = Vec<u8>;

    fn put(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn take(proto: Vec<u8>) -> Result<Self, Fault> {
        exactly(&proto).map(Self::from_be_bytes)
    }
}

impl Wire for SagaId {
    type Proto = Vec<u8>;

    fn put(&self) -> Vec<u8> {
        self.to_bytes().to_vec()
    }

    fn take(proto: Vec<u8>) -> Result<Self, Fault> {
        Self::from_slice(&proto).map_err(|_| Fault::new("has a wrong length"))
    }
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Fault> {
    bytes.try_into().map_err(|_| Fault::new("has a wrong length"))
}

/// The Protobuf bytes of a value that is a message.
#[must_use]
pub fn to_bytes<T: Wire<Proto: prost::Message>>(value: &T) -> Vec<u8> {
    prost::Message::encode_to_vec(&value.put())
}

/// Why bytes are not a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not Protobuf of that message.
    #[error("malformed")]
    Malformed(#[source] prost::DecodeError),
    /// A field is absent or holds what it may not.
    #[error("field `{}` {}", .0.field, .0.problem)]
    Field(Fault),
}

/// The value of Protobuf bytes.
///
/// # Errors
/// Malformed Protobuf, or the first field that is absent or wrong.
pub fn from_bytes<T: Wire<Proto: prost::Message + Default>>(bytes: &[u8]) -> Result<T, WireError> {
    let proto = <T::Proto as prost::Message>::decode(bytes).map_err(WireError::Malformed)?;
    T::take(proto).map_err(WireError::Field)
}

/// `wire_struct!(proto: Name { field, … } …)`: a struct whose message has the same name and fields.
#[macro_export]
macro_rules! wire_struct {
    ($proto:ident: $($name:ident { $($field:ident),* $(,)? })*) => { $(
        impl $crate::wire::Wire for $name {
            type Proto = $proto::$name;
            fn put(&self) -> Self::Proto {
                $proto::$name { $($field: $crate::wire::Field::put_field(&self.$field)),* }
            }
            fn take(proto: Self::Proto) -> Result<Self, $crate::wire::Fault> {
                Ok(Self { $($field: $crate::wire::Field::take_field(proto.$field, stringify!($field))?),* })
            }
        }
    )* };
}

/// `wire_enum!(proto: Name { Variant, … } …)`: an enum without data; zero and unknown numbers are refused.
#[macro_export]
macro_rules! wire_enum {
    ($proto:ident: $($name:ident { $($variant:ident),* $(,)? })*) => { $(
        impl $crate::wire::Wire for $name {
            type Proto = i32;
            fn put(&self) -> i32 {
                i32::from(match self { $(Self::$variant => $proto::$name::$variant),* })
            }
            fn take(proto: i32) -> Result<Self, $crate::wire::Fault> {
                match $proto::$name::try_from(proto) {
                    $(Ok($proto::$name::$variant) => Ok(Self::$variant),)*
                    Ok($proto::$name::Unspecified) | Err(_) => Err($crate::wire::Fault::new("has an unknown value")),
                }
            }
        }
    )* };
}

/// `wire_choice!(proto: Name in module { Variant { field, … } … } [Variant …])`: an enum with data, whose message has one
/// `oneof is`. In braces, variants with their own nested message; in brackets, variants that hold one value.
#[macro_export]
macro_rules! wire_choice {
    ($proto:ident: $($name:ident in $module:ident { $($variant:ident { $($field:ident),* })* } [$($single:ident)*])*) => { $(
        impl $crate::wire::Wire for $name {
            type Proto = $proto::$name;
            fn put(&self) -> Self::Proto {
                use $proto::$module as module;
                $proto::$name { is: Some(match self {
                    $(Self::$variant { $($field),* } => module::Is::$variant(module::$variant {
                        $($field: $crate::wire::Field::put_field($field)),*
                    }),)*
                    $(Self::$single(value) => module::Is::$single($crate::wire::Wire::put(value)),)*
                }) }
            }
            fn take(proto: Self::Proto) -> Result<Self, $crate::wire::Fault> {
                use $proto::$module as module;
                match proto.is {
                    None => Err($crate::wire::Fault::new("is an unknown choice")),
                    $(Some(module::Is::$variant(module::$variant { $($field),* })) => Ok(Self::$variant {
                        $($field: $crate::wire::Field::take_field($field, stringify!($field))?),*
                    }),)*
                    $(Some(module::Is::$single(value)) => $crate::wire::Wire::take(value).map(Self::$single),)*
                }
            }
        }
    )* };
}

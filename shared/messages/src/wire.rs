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
///
/// It can be made into that form, and it can be written as the form's bytes directly. Both give the same bytes; the second needs no
/// memory of its own for every id, amount and name, and machines write far more than anybody reads.
pub trait Wire: Sized {
    /// The form.
    type Proto;
    /// Makes it into the form.
    fn put(&self) -> Self::Proto;
    /// Writes the bytes of the form as field `number` of a message.
    fn write(&self, number: u32, out: &mut Vec<u8>);
    /// Reads it.
    ///
    /// # Errors
    /// The first field that is absent or holds what it may not.
    fn take(proto: Self::Proto) -> Result<Self, Fault>;
}

/// A value whose form is a message.
pub trait Body: Wire {
    /// Writes the message's fields, in the order of their numbers.
    fn write_body(&self, out: &mut Vec<u8>);
}

/// A field of a message: mandatory, optional or repeated, as its type says.
pub trait Field<P>: Sized {
    /// Makes it into the form.
    fn put_field(&self) -> P;
    /// Writes the bytes of the form as field `number`; nothing if it is not there.
    fn write_field(&self, number: u32, out: &mut Vec<u8>);
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

    fn write_field(&self, number: u32, out: &mut Vec<u8>) {
        self.write(number, out);
    }

    fn take_field(proto: Option<T::Proto>, name: &'static str) -> Result<Self, Fault> {
        proto.ok_or(Fault::new("is absent")).and_then(T::take).map_err(|fault| fault.of(name))
    }
}

impl<T: Wire> Field<Option<T::Proto>> for Option<T> {
    fn put_field(&self) -> Option<T::Proto> {
        self.as_ref().map(T::put)
    }

    fn write_field(&self, number: u32, out: &mut Vec<u8>) {
        self.iter().for_each(|value| value.write(number, out));
    }

    fn take_field(proto: Option<T::Proto>, name: &'static str) -> Result<Self, Fault> {
        proto.map(T::take).transpose().map_err(|fault| fault.of(name))
    }
}

impl<T: Wire> Field<Vec<T::Proto>> for Vec<T> {
    fn put_field(&self) -> Vec<T::Proto> {
        self.iter().map(T::put).collect()
    }

    fn write_field(&self, number: u32, out: &mut Vec<u8>) {
        self.iter().for_each(|value| value.write(number, out));
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

    fn write(&self, number: u32, out: &mut Vec<u8>) {
        T::write(self, number, out);
    }

    fn take(proto: T::Proto) -> Result<Self, Fault> {
        T::take(proto).map(Self::new)
    }
}

impl<T: Body> Body for Box<T> {
    fn write_body(&self, out: &mut Vec<u8>) {
        T::write_body(self, out);
    }
}

macro_rules! plain {
    ($($type:ty, $value:ident, $out:ident, $number:ident => $write:expr;)*) => { $(
        impl Wire for $type {
            type Proto = Self;
            fn put(&self) -> Self {
                self.clone()
            }
            fn write(&self, $number: u32, $out: &mut Vec<u8>) {
                let $value = self;
                $write;
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
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                write_number(number, self.0, out);
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
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                write_bytes(number, &self.0, out);
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
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                write_bytes(number, self.as_str().as_bytes(), out);
            }
            fn take(proto: String) -> Result<Self, Fault> {
                Self::new(&proto).map_err(|_| Fault::new("is not a name of its kind"))
            }
        }
    )* };
}

plain! {
    u32, value, out, number => write_number(number, u64::from(*value), out);
    u64, value, out, number => write_number(number, *value, out);
    bool, value, out, number => write_number(number, u64::from(*value), out);
    String, value, out, number => write_bytes(number, value.as_bytes(), out);
    Vec<u8>, value, out, number => write_bytes(number, value, out);
}
number!(Timestamp, Millis);
fixed!(AccountId, WalletId, IntentId, CommandId, Digest, TxHash, BlockHash, EthAddress);
name!(TenantId, OfficerId, NodeName, IdempotencyKey, AssetId, ChainId);

impl<const N: usize> Wire for [u8; N] {
    type Proto = Vec<u8>;

    fn put(&self) -> Vec<u8> {
        self.to_vec()
    }

    fn write(&self, number: u32, out: &mut Vec<u8>) {
        write_bytes(number, self, out);
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

    fn write(&self, number: u32, out: &mut Vec<u8>) {
        write_bytes(number, &self.to_be_bytes(), out);
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

    fn write(&self, number: u32, out: &mut Vec<u8>) {
        write_bytes(number, &self.to_bytes(), out);
    }

    fn take(proto: Vec<u8>) -> Result<Self, Fault> {
        Self::from_slice(&proto).map_err(|_| Fault::new("has a wrong length"))
    }
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Fault> {
    bytes.try_into().map_err(|_| Fault::new("has a wrong length"))
}

/// Fields of one number or one text.
const VARINT: u64 = 0;
/// Fields of counted bytes.
const COUNTED: u64 = 2;
/// Room for most messages, so that writing them moves nothing.
const ROOM: usize = 256;

/// The Protobuf bytes of a value that is a message.
#[must_use]
pub fn to_bytes<T: Body<Proto: prost::Message>>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(ROOM);
    value.write_body(&mut out);
    debug_assert_eq!(out, prost::Message::encode_to_vec(&value.put()), "both ways of writing give the same bytes");
    out
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

const fn low_byte(value: u64) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}

/// Field `number` with the number `value`.
pub fn write_number(number: u32, value: u64, out: &mut Vec<u8>) {
    write_varint(u64::from(number) << 3 | VARINT, out);
    write_varint(value, out);
}

/// Field `number` with these bytes or this text.
pub fn write_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    write_varint(u64::from(number) << 3 | COUNTED, out);
    write_varint(u64::try_from(bytes.len()).unwrap_or(u64::MAX), out);
    out.extend_from_slice(bytes);
}

/// Field `number` with the message that `body` writes. Its length stands before it and is known after it: one byte is kept for it, and
/// what was written moves up when it needs more.
pub fn write_message(number: u32, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    write_varint(u64::from(number) << 3 | COUNTED, out);
    let at = out.len();
    out.push(0);
    body(out);
    let first = at.saturating_add(1);
    let length = u64::try_from(out.len().saturating_sub(first)).unwrap_or(u64::MAX);
    match out.get_mut(at) {
        Some(place) if length < 0x80 => *place = low_byte(length),
        _ => {
            let mut counted = Vec::with_capacity(10);
            write_varint(length, &mut counted);
            out.splice(at..first, counted);
        }
    }
}

/// Writes `value` as field `number` in the form that `form` picks out of a message: it is never called, its type alone says which.
pub fn write_as<M, P, T: Field<P>>(value: &T, _form: fn(&M) -> &P, number: u32, out: &mut Vec<u8>) {
    value.write_field(number, out);
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
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                $crate::wire::write_message(number, out, |out| $crate::wire::Body::write_body(self, out));
            }
            fn take(proto: Self::Proto) -> Result<Self, $crate::wire::Fault> {
                Ok(Self { $($field: $crate::wire::Field::take_field(proto.$field, stringify!($field))?),* })
            }
        }
        impl $crate::wire::Body for $name {
            fn write_body(&self, out: &mut Vec<u8>) {
                $($crate::wire::write_as(
                    &self.$field,
                    |proto: &$proto::$name| &proto.$field,
                    $proto::numbers::$name::$field,
                    out,
                );)*
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
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                // Numbers of the contract's enums are above zero.
                $crate::wire::write_number(number, u64::try_from(self.put()).unwrap_or_default(), out);
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
            fn write(&self, number: u32, out: &mut Vec<u8>) {
                $crate::wire::write_message(number, out, |out| $crate::wire::Body::write_body(self, out));
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
        impl $crate::wire::Body for $name {
            #[allow(unused_imports, unused_variables)]
            fn write_body(&self, out: &mut Vec<u8>) {
                use $proto::$module as module;
                use $proto::numbers::$name as numbers;
                match self {
                    $(Self::$variant { $($field),* } => $crate::wire::write_message(numbers::$variant, out, |out| {
                        $($crate::wire::write_as(
                            $field,
                            |proto: &module::$variant| &proto.$field,
                            numbers::$variant::$field,
                            out,
                        );)*
                    }),)*
                    $(Self::$single(value) => $crate::wire::Wire::write(value, numbers::$single, out),)*
                }
            }
        }
    )* };
}

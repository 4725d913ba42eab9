//! What calls answer: the driver's codes.

use std::ffi::CStr;

/// The code of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Status(pub(crate) u32);

/// Names codes, with the text of each.
macro_rules! codes {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        impl Status {
            $(pub(crate) const $name: Self = Self($code);)*

            /// Returns the code's name in the driver's header, and what it means.
            pub(crate) fn texts(self) -> Option<(&'static CStr, &'static CStr)> {
                // SAFETY: the only NUL is the last byte.
                let text = |bytes: &'static str| unsafe {
                    CStr::from_bytes_with_nul_unchecked(bytes.as_bytes())
                };
                match self {
                    $(Self::$name => Some((
                        text(concat!("CUDA_ERROR_", stringify!($name), "\0")),
                        text(concat!($text, "\0")),
                    )),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    SUCCESS = 0, "no error";
    INVALID_VALUE = 1, "invalid argument";
    OUT_OF_MEMORY = 2, "out of memory";
    NOT_INITIALIZED = 3, "initialization error";
    INVALID_DEVICE = 101, "invalid device ordinal";
    INVALID_IMAGE = 200, "device kernel image is invalid";
    INVALID_CONTEXT = 201, "invalid device context";
    NO_BINARY_FOR_GPU = 209, "no kernel image is available for execution on the device";
    INVALID_PTX = 218, "a PTX JIT compilation failed";
    ILLEGAL_STATE = 401, "the operation cannot be performed in the present state";
    INVALID_HANDLE = 400, "invalid resource handle";
    NOT_FOUND = 500, "named symbol not found";
    NOT_READY = 600, "device not ready";
    ILLEGAL_ADDRESS = 700, "an illegal memory access was encountered";
    LAUNCH_TIMEOUT = 702, "the launch timed out and was terminated";
    MISALIGNED_ADDRESS = 716, "misaligned address";
    LAUNCH_FAILED = 719, "unspecified launch failure";
    NOT_SUPPORTED = 801, "operation not supported";
    STREAM_CAPTURE_UNSUPPORTED = 900, "operation not permitted when stream is capturing";
    STREAM_CAPTURE_INVALIDATED = 901, "operation failed due to a previous error during capture";
    STREAM_CAPTURE_UNMATCHED = 903, "stream capture was not initiated in this stream";
    STREAM_CAPTURE_ISOLATION = 905, "dependency created on uncaptured work in another stream";
    STREAM_CAPTURE_IMPLICIT = 906, "operation would make the legacy stream depend on a capturing blocking stream";
    CAPTURED_EVENT = 907, "operation not permitted on an event last recorded in a capturing stream";
    STREAM_CAPTURE_WRONG_THREAD = 908, "attempt to terminate a thread-local capture sequence from another thread";
}

/// What a call came to.
pub(crate) type Answer<T = ()> = Result<T, Status>;

//! Messages, written into the caller's context; long ones are cut.

use core::ffi::{CStr, c_char};
use core::fmt::{self, Write};

use super::abi::Context;

/// A status other than OK, the message being in the context already.
pub(crate) struct Failed(pub i32);

/// The result of a check.
pub(crate) type Checked<T = ()> = Result<T, Failed>;

struct Cursor<'a> {
    text: &'a mut [u8],
    at: usize,
}

impl Write for Cursor<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.text.len().saturating_sub(self.at + 1);
        let n = s.len().min(room);
        if let (Some(to), Some(from)) = (self.text.get_mut(self.at..self.at + n), s.as_bytes().get(..n)) {
            to.copy_from_slice(from);
            self.at += n;
        }
        Ok(())
    }
}

/// Writes the reason and returns the status.
pub(crate) fn fail(context: &mut Context, status: i32, reason: fmt::Arguments<'_>) -> Failed {
    context.message = [0; 512];
    let mut cursor = Cursor { text: &mut context.message, at: 0 };
    let _ = cursor.write_fmt(reason);
    Failed(status)
}

/// A text of a table.
pub(crate) fn text<'a>(s: *const c_char) -> &'a str {
    if s.is_null() {
        return "";
    }
    // SAFETY: the texts of a table are UTF-8 with a zero byte at the end.
    unsafe { core::str::from_utf8(CStr::from_ptr(s).to_bytes()).unwrap_or("?") }
}

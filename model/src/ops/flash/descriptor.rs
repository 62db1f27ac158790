//! What cuDNN keeps: made, told its attributes, finished, and given back.

use std::ffi::c_void;
use std::ptr::null_mut;

use cudarc::cudnn::sys;
use sys::cudnnBackendAttributeName_t as Name;
use sys::cudnnBackendAttributeType_t as Type;
use sys::cudnnBackendDescriptorType_t as Kind;

/// Something that cuDNN keeps, given back when it is dropped.
pub(super) struct Descriptor(pub(super) sys::cudnnBackendDescriptor_t);

pub(super) fn said(status: sys::cudnnStatus_t, what: &str) -> Result<(), String> {
    match status {
        sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS => Ok(()),
        other => Err(format!("{other:?} for {what}")),
    }
}

#[expect(unsafe_code, reason = "calls cuDNN")]
impl Descriptor {
    pub(super) fn new(kind: Kind) -> Result<Self, String> {
        let mut descriptor = null_mut();
        // SAFETY: writes the new descriptor's address.
        let status = unsafe { sys::cudnnBackendCreateDescriptor(kind, &mut descriptor) };
        said(status, &format!("{kind:?}"))?;
        Ok(Self(descriptor))
    }

    /// Sets an attribute to values as they lie in memory.
    pub(super) fn set<T>(self, name: Name, of: Type, values: &[T]) -> Result<Self, String> {
        // SAFETY: callers name the type that `T` is laid out as; the values are read before it returns.
        let status = unsafe {
            sys::cudnnBackendSetAttribute(
                self.0,
                name,
                of,
                values.len() as i64,
                values.as_ptr().cast(),
            )
        };
        said(status, &format!("{name:?}"))?;
        Ok(self)
    }

    pub(super) fn set_descriptor(self, name: Name, other: &Self) -> Result<Self, String> {
        self.set(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &[other.0])
    }

    pub(super) fn finished(self) -> Result<Self, String> {
        // SAFETY: the descriptor is cuDNN's.
        said(unsafe { sys::cudnnBackendFinalize(self.0) }, "finishing")?;
        Ok(self)
    }

    /// How many values an attribute has.
    pub(super) fn count(&self, name: Name, of: Type) -> Result<usize, String> {
        self.read(name, of, 0, null_mut())
    }

    /// Writes as many values of an attribute as there is room for; how many these are.
    pub(super) fn get<T>(&self, name: Name, of: Type, values: &mut [T]) -> Result<usize, String> {
        self.read(name, of, values.len(), values.as_mut_ptr().cast())
    }

    /// `to` is null, which asks for the number of values alone, or has room for so many.
    fn read(&self, name: Name, of: Type, room: usize, to: *mut c_void) -> Result<usize, String> {
        let mut count = 0;
        // SAFETY: as in `set`; no more values are written than there is room for.
        let status =
            unsafe { sys::cudnnBackendGetAttribute(self.0, name, of, room as i64, &mut count, to) };
        said(status, &format!("{name:?}"))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }
}

#[expect(unsafe_code, reason = "calls cuDNN")]
impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: it was made by `new` and nobody else gives it back.
        let _ = unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}

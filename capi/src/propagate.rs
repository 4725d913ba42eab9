//! On to the next layer: joins.

use core::ffi::c_void;

use adaloss_core::propagate::{common_scale, sum_at};

use crate::{
    ADALOSS_ERROR_BRANCHES, adaloss_code, adaloss_format,
    code::{Refused, code},
    format::with_element,
    memory::{Place, any_bytes, array, array_mut},
    scale,
};

/// One branch of a join.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct adaloss_branch {
    pub gradient: *const c_void,
    pub scale_log2: i32,
    pub reserved: u32,
}

any_bytes!(adaloss_branch);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_propagate_common(
    scales_log2: *const i32,
    count: usize,
    common_log2: *mut i32,
) -> adaloss_code {
    code(|| {
        // SAFETY: the header asks for an array and a place.
        let (scales, place) = unsafe { (array(scales_log2, count)?, Place::new(common_log2)?) };
        scales.iter().try_for_each(|&log2| scale::parse(log2).map(drop))?;
        let scales = scales.iter().flat_map(|&log2| scale::parse(log2));
        let common = common_scale(scales).ok_or(Refused(ADALOSS_ERROR_BRANCHES))?;
        place.set(common.log2());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn adaloss_propagate_join(
    format: adaloss_format,
    branches: *const adaloss_branch,
    branch_count: usize,
    sum: *mut f32,
    count: usize,
    common_log2: *mut i32,
) -> adaloss_code {
    code(|| {
        let format = format.parse()?;
        // SAFETY: the header asks for an array of branches, one of `count` elements, and a place.
        let (branches, sum, place) = unsafe {
            (array(branches, branch_count)?, array_mut(sum, count)?, Place::new(common_log2)?)
        };
        let scales = branches.iter().map(|branch| scale::parse(branch.scale_log2));
        scales.clone().try_for_each(|scale| scale.map(drop))?;
        let common = match common_scale(scales.flatten()) {
            Some(common) if branches.len() >= 2 => common,
            _ => return Err(Refused(ADALOSS_ERROR_BRANCHES)),
        };
        with_element!(format.encoding, F => {
            let elements = |branch: &adaloss_branch| {
                // SAFETY: the header asks for `count` elements in each branch, apart from the sum.
                unsafe { array(branch.gradient.cast::<F>(), count) }
            };
            branches.iter().try_for_each(|branch| elements(branch).map(drop))?;
            let parts = branches
                .iter()
                .flat_map(|branch| Ok::<_, Refused>((elements(branch)?, scale::parse(branch.scale_log2)?)));
            sum_at(format, parts, common, sum);
        });
        place.set(common.log2());
        Ok(())
    })
}

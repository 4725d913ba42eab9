//! The entry points of layers' operations.

/// Calls a macro with each entry point of what layers need, as [`entries!`](crate::entries!) does, which calls this one.
#[doc(hidden)]
#[macro_export]
macro_rules! network_entries {
    ($entry:ident) => {
        $crate::network_entries_of_elements!($entry, f16, adaloss_relu_f16, adaloss_relu_input_f16);
        $crate::network_entries_of_elements!(
            $entry,
            bf16,
            adaloss_relu_bf16,
            adaloss_relu_input_bf16
        );
        $crate::network_entries_of_elements!(
            $entry,
            E5M2,
            adaloss_relu_e5m2,
            adaloss_relu_input_e5m2
        );
        $crate::network_entries_of_elements!(
            $entry,
            E4M3,
            adaloss_relu_e4m3,
            adaloss_relu_input_e4m3
        );
        $crate::network_entries_of_elements!($entry, f32, adaloss_relu_f32, adaloss_relu_input_f32);
        $entry! {
            fn adaloss_accumulate(
                block, values: *const f32, columns: usize, to: *mut f32, count: usize
            ) {
                let (values, to) = (tensor(values, columns), Out::new(to, count));
                $crate::network::accumulate::accumulate(block, values, to);
            }
        }
        $entry! {
            fn adaloss_blend(
                block,
                share: f32,
                values: *const f32,
                count: usize,
                to: *mut f32,
                when: *const u32
            ) {
                let (values, to) = (tensor(values, count), Out::new(to, count));
                $crate::network::accumulate::blend(block, share, values, to, when);
            }
        }
        $entry! {
            fn adaloss_loss_weights(block, loss: Loss) {
                $crate::network::loss::weights(block, &loss);
            }
        }
        $entry! {
            fn adaloss_softmax_cross_entropy(block, loss: Loss) {
                $crate::network::loss::softmax_cross_entropy(block, &loss);
            }
        }
        $entry! {
            fn adaloss_square_norm(block, values: *const f32, count: usize, parts: *mut f64) {
                $crate::network::update::square_norm(block, tensor(values, count), parts);
            }
        }
        $entry! {
            fn adaloss_add_sums(
                block, parts: *const f64, part_count: usize, count: usize, to: *mut f64
            ) {
                $crate::sums::add_sums(block, parts, part_count, count, to);
            }
        }
        $entry! {
            fn adaloss_sgd_step(block, sgd: Sgd, step: Step, momentum: *mut f32) {
                $crate::network::update::sgd_step(block, sgd, &step, momentum);
            }
        }
        $entry! {
            fn adaloss_adamw_step(
                block, adamw: AdamW, step: Step, update: *const u32, moments: *mut f32
            ) {
                $crate::network::update::adamw_step(block, adamw, &step, update, moments);
            }
        }
    };
}

/// Entry points of layers' operations for one element type.
#[doc(hidden)]
#[macro_export]
macro_rules! network_entries_of_elements {
    ($entry:ident, $element:ty, $relu:ident, $relu_input:ident) => {
        $entry! {
            fn $relu(block, to: *mut $element, count: usize) {
                $crate::network::pointwise::relu(block, Out::new(to, count));
            }
        }
        $entry! {
            fn $relu_input(block, output: Operand, to: *mut $element, count: usize) {
                $crate::network::pointwise::relu_input(block, output, Out::new(to, count));
            }
        }
    };
}

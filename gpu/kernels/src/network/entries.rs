//! The entry points of layers' operations.

/// Calls a macro with each entry point of what layers need, as [`entries!`](crate::entries!) does, which calls this one.
#[doc(hidden)]
#[macro_export]
macro_rules! network_entries {
    ($entry:ident) => {
        $crate::network_entries_of_elements!(
            $entry,
            f16,
            adaloss_relu_f16,
            adaloss_relu_input_f16,
            adaloss_dropout_f16,
            adaloss_embed_f16,
            adaloss_normalise_f16,
            adaloss_normalise_input_f16,
            adaloss_max_pool_f16,
            adaloss_unpool_f16,
            adaloss_pick_f16,
            adaloss_pool_f16,
            adaloss_convolve_f16,
            adaloss_attend_f16,
            adaloss_attend_input_f16
        );
        $crate::network_entries_of_elements!(
            $entry,
            bf16,
            adaloss_relu_bf16,
            adaloss_relu_input_bf16,
            adaloss_dropout_bf16,
            adaloss_embed_bf16,
            adaloss_normalise_bf16,
            adaloss_normalise_input_bf16,
            adaloss_max_pool_bf16,
            adaloss_unpool_bf16,
            adaloss_pick_bf16,
            adaloss_pool_bf16,
            adaloss_convolve_bf16,
            adaloss_attend_bf16,
            adaloss_attend_input_bf16
        );
        $crate::network_entries_of_elements!(
            $entry,
            E5M2,
            adaloss_relu_e5m2,
            adaloss_relu_input_e5m2,
            adaloss_dropout_e5m2,
            adaloss_embed_e5m2,
            adaloss_normalise_e5m2,
            adaloss_normalise_input_e5m2,
            adaloss_max_pool_e5m2,
            adaloss_unpool_e5m2,
            adaloss_pick_e5m2,
            adaloss_pool_e5m2,
            adaloss_convolve_e5m2,
            adaloss_attend_e5m2,
            adaloss_attend_input_e5m2
        );
        $crate::network_entries_of_elements!(
            $entry,
            E4M3,
            adaloss_relu_e4m3,
            adaloss_relu_input_e4m3,
            adaloss_dropout_e4m3,
            adaloss_embed_e4m3,
            adaloss_normalise_e4m3,
            adaloss_normalise_input_e4m3,
            adaloss_max_pool_e4m3,
            adaloss_unpool_e4m3,
            adaloss_pick_e4m3,
            adaloss_pool_e4m3,
            adaloss_convolve_e4m3,
            adaloss_attend_e4m3,
            adaloss_attend_input_e4m3
        );
        $crate::network_entries_of_elements!(
            $entry,
            f32,
            adaloss_relu_f32,
            adaloss_relu_input_f32,
            adaloss_dropout_f32,
            adaloss_embed_f32,
            adaloss_normalise_f32,
            adaloss_normalise_input_f32,
            adaloss_max_pool_f32,
            adaloss_unpool_f32,
            adaloss_pick_f32,
            adaloss_pool_f32,
            adaloss_convolve_f32,
            adaloss_attend_f32,
            adaloss_attend_input_f32
        );
        $entry! {
            fn adaloss_attend_totals(
                block, attention: Attention, gradient: Operand, to: *mut f32, when: *const u32
            ) {
                $crate::network::attend::totals(block, &attention, gradient, to, when);
            }
        }
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
        $entry! {
            fn adaloss_moments(
                block, of: Normalisation, parts: *mut f64, to: *mut f32, count: usize
            ) {
                $crate::network::normalise::moments(block, of, parts, Out::new(to, count));
            }
        }
        $entry! {
            fn adaloss_moments_of_parts(
                block, of: Normalisation, parts: *const f64, to: *mut f32, count: usize
            ) {
                let to = Out::new(to, count);
                $crate::network::normalise::moments_of_parts(block, of, parts, to);
            }
        }
        $entry! {
            fn adaloss_normalise_sums(
                block,
                forward: Forward,
                gradient: Operand,
                parts: *mut f64,
                to: *mut f32,
                count: usize
            ) {
                let to = Out::new(to, count);
                $crate::network::normalise::normalise_sums(block, &forward, gradient, parts, to);
            }
        }
        $entry! {
            fn adaloss_sums_of_parts(
                block, of: Columns, parts: *const f64, to: *mut f32, count: usize
            ) {
                $crate::network::normalise::sums_of_parts(block, of, parts, Out::new(to, count));
            }
        }
        $entry! {
            fn adaloss_embed_links(
                block, tokens: *const u32, count: usize, links: *mut u32
            ) {
                let (tokens, links) = (tensor(tokens, count), Out::new(links, count));
                $crate::network::embed::embed_links(block, tokens, links);
            }
        }
        $entry! {
            fn adaloss_embed_table(
                block,
                width: usize,
                tokens: *const u32,
                token_count: usize,
                first: usize,
                links: *const u32,
                gradient: Operand,
                to: *mut f32,
                count: usize
            ) {
                let (tokens, to) = ((tensor(tokens, token_count), first), Out::new(to, count));
                $crate::network::embed::embed_table(block, width, tokens, links, gradient, to);
            }
        }
    };
}

/// Entry points of layers' operations for one element type.
#[doc(hidden)]
#[macro_export]
macro_rules! network_entries_of_elements {
    (
        $entry:ident,
        $element:ty,
        $relu:ident,
        $relu_input:ident,
        $dropout:ident,
        $embed:ident,
        $normalise:ident,
        $normalise_input:ident,
        $max_pool:ident,
        $unpool:ident,
        $pick:ident,
        $pool:ident,
        $convolve:ident,
        $attend:ident,
        $attend_input:ident
    ) => {
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
        $entry! {
            fn $dropout(
                block,
                mask: Mask,
                values: *const $element,
                count: usize,
                to: *mut $element,
                epilogue: Epilogue
            ) {
                let (values, to) = (tensor(values, count), Out::new(to, count));
                $crate::network::dropout::dropout(block, mask, values, to, &epilogue);
            }
        }
        $entry! {
            fn $embed(
                block,
                width: usize,
                tokens: *const u32,
                token_count: usize,
                table: *const $element,
                table_count: usize,
                to: *mut $element,
                count: usize
            ) {
                let (tokens, table) = (tensor(tokens, token_count), tensor(table, table_count));
                $crate::network::embed::embed(block, width, tokens, table, Out::new(to, count));
            }
        }
        $entry! {
            fn $normalise(
                block,
                forward: Forward,
                affine: *const f32,
                to: *mut $element,
                count: usize,
                epilogue: Epilogue
            ) {
                let to = Out::new(to, count);
                $crate::network::normalise::normalise(block, &forward, affine, to, &epilogue);
            }
        }
        $entry! {
            fn $normalise_input(
                block,
                forward: Forward,
                gradient: *const $element,
                affine: *const f32,
                sums: *const f32,
                to: *mut $element,
                count: usize,
                epilogue: Epilogue
            ) {
                let (gradient, to) = (tensor(gradient, count), Out::new(to, count));
                $crate::network::normalise::normalise_input(
                    block, &forward, gradient, affine, sums, to, &epilogue,
                );
            }
        }
        $entry! {
            fn $max_pool(
                block,
                pooling: Pooling,
                input: *const $element,
                input_count: usize,
                to: *mut $element,
                positions: *mut u32,
                count: usize
            ) {
                let (to, positions) = (Out::new(to, count), Out::new(positions, count));
                let input = tensor(input, input_count);
                $crate::network::pool::max_pool(block, &pooling, input, to, positions);
            }
        }
        $entry! {
            fn $unpool(
                block,
                pooling: Pooling,
                input: *const $element,
                positions: *const u32,
                input_count: usize,
                to: *mut $element,
                count: usize
            ) {
                let input = tensor(input, input_count);
                let (positions, to) = (tensor(positions, input_count), Out::new(to, count));
                $crate::network::pool::unpool(block, &pooling, input, positions, to);
            }
        }
        $entry! {
            fn $pick(
                block,
                pooling: Pooling,
                input: *const $element,
                input_count: usize,
                positions: *const u32,
                to: *mut $element,
                count: usize
            ) {
                let input = tensor(input, input_count);
                let (positions, to) = (tensor(positions, count), Out::new(to, count));
                $crate::network::pool::pick(block, &pooling, input, positions, to);
            }
        }
        $entry! {
            fn $pool(
                block,
                pooling: Pooling,
                sum: u32,
                input: *const $element,
                input_count: usize,
                positions: *const u32,
                to: *mut $element,
                count: usize,
                epilogue: Epilogue
            ) {
                let (sum, to) = (Sum::of(sum), Out::new(to, count));
                let input = tensor(input, input_count);
                $crate::network::pool::pool(
                    block, &pooling, sum, input, positions, to, &epilogue,
                );
            }
        }
        $entry! {
            fn $convolve(
                block,
                convolution: Convolution,
                direction: u32,
                a: Operand,
                b: Operand,
                to: *mut $element,
                count: usize,
                epilogue: Epilogue
            ) {
                let (direction, to) = (Direction::of(direction), Out::new(to, count));
                $crate::network::convolve::convolve(
                    block, &convolution, direction, [a, b], to, &epilogue,
                );
            }
        }
        $entry! {
            fn $attend(
                block,
                attention: Attention,
                totals: *const f32,
                to: *mut $element,
                count: usize,
                epilogue: Epilogue
            ) {
                let to = Out::new(to, count);
                $crate::network::attend::attend(block, &attention, totals, to, &epilogue);
            }
        }
        $entry! {
            fn $attend_input(
                block,
                attention: Attention,
                gradient: *const $element,
                totals: *const f32,
                to: *mut $element,
                count: usize,
                epilogue: Epilogue
            ) {
                let (of, to) = (&attention, Out::new(to, count));
                let gradient = Operand::new(gradient);
                $crate::network::attend::attend_input(block, of, gradient, totals, to, &epilogue);
            }
        }
    };
}

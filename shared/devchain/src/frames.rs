//! Collects the call frames of a transaction as geth's `callTracer` reports them.
//!
//! Kept for every mined transaction, because ether that a contract passes on leaves no log: only a frame shows it.

use alloy::{
    primitives::{Address, Bytes, U256},
    rpc::types::trace::geth::CallFrame,
};
use revm::{
    Inspector,
    context_interface::{ContextTr, CreateScheme},
    interpreter::{
        CallInputs, CallOutcome, CallScheme, CreateInputs, CreateOutcome, InstructionResult, InterpreterResult,
        InterpreterTypes,
    },
};

/// The frames of one transaction, open ones on a stack.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    open: Vec<CallFrame>,
    root: Option<CallFrame>,
}

impl Frames {
    /// The outermost frame, with the transaction's own gas figures. None when nothing was executed.
    pub(crate) fn into_root(self, gas_limit: u64, gas_used: u64) -> Option<CallFrame> {
        let mut root = self.root?;
        root.gas = U256::from(gas_limit);
        root.gas_used = U256::from(gas_used);
        Some(root)
    }

    fn close(&mut self, result: &InterpreterResult, created: Option<Address>) {
        let Some(mut frame) = self.open.pop() else { return };
        frame.gas_used = U256::from(result.gas.total_gas_spent());
        if !result.output.is_empty() {
            frame.output = Some(result.output.clone());
        }
        if let Some(address) = created {
            frame.to = Some(address);
        }
        if !result.result.is_ok() {
            frame.error = Some(failure(result.result));
        }
        match self.open.last_mut() {
            Some(parent) => parent.calls.push(frame),
            None => self.root = Some(frame),
        }
    }
}

/// The words that geth uses for the common failures.
fn failure(result: InstructionResult) -> String {
    match result {
        InstructionResult::Revert => "execution reverted".to_owned(),
        InstructionResult::OutOfFunds => "insufficient balance for transfer".to_owned(),
        InstructionResult::CallTooDeep => "max call depth exceeded".to_owned(),
        InstructionResult::OutOfGas => "out of gas".to_owned(),
        other => format!("{other:?}"),
    }
}

impl<C: ContextTr, I: InterpreterTypes> Inspector<C, I> for Frames {
    fn call(&mut self, context: &mut C, inputs: &mut CallInputs) -> Option<CallOutcome> {
        let (kind, from, to) = match inputs.scheme {
            CallScheme::Call => ("CALL", inputs.caller, inputs.target_address),
            CallScheme::CallCode => ("CALLCODE", inputs.target_address, inputs.bytecode_address),
            CallScheme::DelegateCall => ("DELEGATECALL", inputs.target_address, inputs.bytecode_address),
            CallScheme::StaticCall => ("STATICCALL", inputs.caller, inputs.target_address),
        };
        self.open.push(CallFrame {
            from,
            to: Some(to),
            gas: U256::from(inputs.gas_limit),
            input: inputs.input.bytes(context),
            value: (inputs.scheme != CallScheme::StaticCall).then(|| inputs.call_value()),
            typ: kind.to_owned(),
            ..CallFrame::default()
        });
        None
    }

    fn call_end(&mut self, _context: &mut C, _inputs: &CallInputs, outcome: &mut CallOutcome) {
        self.close(&outcome.result, None);
    }

    fn create(&mut self, _context: &mut C, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        let kind = if matches!(inputs.scheme(), CreateScheme::Create2 { .. }) { "CREATE2" } else { "CREATE" };
        self.open.push(CallFrame {
            from: inputs.caller(),
            gas: U256::from(inputs.gas_limit()),
            input: inputs.init_code().clone(),
            value: Some(inputs.value()),
            typ: kind.to_owned(),
            ..CallFrame::default()
        });
        None
    }

    fn create_end(&mut self, _context: &mut C, _inputs: &CreateInputs, outcome: &mut CreateOutcome) {
        self.close(&outcome.result, outcome.address);
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        let frame = CallFrame {
            from: contract,
            to: Some(target),
            input: Bytes::new(),
            value: Some(value),
            typ: "SELFDESTRUCT".to_owned(),
            ..CallFrame::default()
        };
        if let Some(parent) = self.open.last_mut() {
            parent.calls.push(frame);
        }
    }
}

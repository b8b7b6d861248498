//! The table of a torch file: a pickle that is read and never run. The few opcodes that a dictionary of tensors needs build
//! nodes in an arena; the few names that it may ask for are known by heart; anything else is refused with its name.
//!
//! Memory is at most a node for each byte, nothing is nested by recursion, and calls make descriptions of tensors only.

use std::collections::BTreeMap;

use super::dtype::Dtype;

/// A tensor as the pickle describes it: a view of a storage, which is a member of the archive.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) dtype: Dtype,
    /// The member's name below `data/`.
    pub(super) key: String,
    /// Elements of the storage.
    pub(super) length: usize,
    /// Elements before the first.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// A value at the top of the pickle.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Tensor(View),
    Number(f64),
}

/// What a pickle may ask for.
#[derive(Clone, Copy, Debug)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

type Id = usize;

#[derive(Clone, Debug)]
enum Node {
    /// What no tensor is made of: None, a truth value, a list.
    Other,
    Int(i64),
    Float(f64),
    Text(String),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Dtype, String, usize),
    Tensor(View),
}

fn global(module: &str, name: &str) -> Result<Global, String> {
    let storage = || Dtype::from_torch(name).map(Global::Storage);
    let known = match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
        ("torch" | "torch.storage", _) => storage(),
        _ => None,
    };
    known.ok_or_else(|| {
        format!(
            "it asks for `{}.{}`, which is not one of the names that a dictionary of tensors needs; nothing was run",
            super::tensors::short(module),
            super::tensors::short(name)
        )
    })
}

/// The tensors and numbers of a pickled dictionary, in order.
///
/// # Errors
/// In words: an opcode or a name beyond the few, bytes that end early, and a value that is no dictionary of tensors.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<(String, Item)>, String> {
    let mut machine = Machine {
        bytes,
        at: 0,
        arena: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
    };
    let top = machine.run()?;
    machine.items(top)
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    arena: Vec<Node>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
}

impl Machine<'_> {
    fn take(&mut self, n: usize) -> Result<&[u8], String> {
        let end = self
            .at
            .checked_add(n)
            .filter(|&end| end <= self.bytes.len());
        let end =
            end.ok_or_else(|| format!("the pickle ends in the middle, at byte {}", self.at))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        taken
            .try_into()
            .map_err(|_| "the pickle ends in the middle".into())
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(256).position(|&b| b == b'\n');
        let end = end.ok_or("a name in the pickle does not end")?;
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.at += end + 1;
        Ok(line)
    }

    fn text(&mut self, length: u64) -> Result<(), String> {
        let length = usize::try_from(length).map_err(|_| "a text beyond the pickle")?;
        let text =
            std::str::from_utf8(self.take(length)?).map_err(|_| "a text that is not UTF-8")?;
        let node = Node::Text(text.to_owned());
        self.push(node);
        Ok(())
    }

    fn push(&mut self, node: Node) {
        self.arena.push(node);
        self.stack.push(self.arena.len() - 1);
    }

    fn pop(&mut self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(format!(
                "the pickle takes a value that is not there, at byte {}",
                self.at
            ));
        }
        self.stack.pop().ok_or_else(|| "an empty stack".into())
    }

    fn top(&self) -> Result<Id, String> {
        let top = self.stack.last().copied();
        top.ok_or_else(|| {
            format!(
                "the pickle takes a value that is not there, at byte {}",
                self.at
            )
        })
    }

    /// The values since the last mark.
    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|&m| m <= self.stack.len());
        let mark = mark.ok_or("the pickle closes what it did not open")?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, n: usize) -> Result<(), String> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.push(Node::Tuple(items));
        Ok(())
    }

    fn remember(&mut self, at: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(at, top);
        Ok(())
    }

    fn recall(&mut self, at: u32) -> Result<(), String> {
        let id = self.memo.get(&at).copied();
        self.stack
            .push(id.ok_or("the pickle recalls what it did not store")?);
        Ok(())
    }

    fn run(&mut self) -> Result<Id, String> {
        loop {
            let (at, code) = (self.at, self.byte()?);
            if code == b'.' {
                return self.pop();
            }
            self.step(at, code)?;
        }
    }

    /// One opcode, by the names that Python's `pickletools` gives them.
    fn step(&mut self, at: usize, code: u8) -> Result<(), String> {
        match code {
            0x80 => drop(self.byte()?),                           // PROTO
            0x95 => drop(self.array::<8>()?),                     // FRAME
            b'(' => self.marks.push(self.stack.len()),            // MARK
            b'0' => drop(self.pop()?),                            // POP
            b'N' => self.push(Node::Other),                       // NONE
            0x88 => self.push(Node::Other),                       // NEWTRUE
            0x89 => self.push(Node::Other),                       // NEWFALSE
            b'}' => self.push(Node::Dict(Vec::new())),            // EMPTY_DICT
            b']' => self.push(Node::Other),                       // EMPTY_LIST
            b')' => self.push(Node::Tuple(Vec::new())),           // EMPTY_TUPLE
            0x85..=0x87 => self.tuple(usize::from(code) - 0x84)?, // TUPLE1, TUPLE2, TUPLE3
            b't' => {
                // TUPLE
                let items = self.since_mark()?;
                self.push(Node::Tuple(items));
            }
            b'K' => {
                let n = self.byte()?;
                self.push(Node::Int(i64::from(n)));
            } // BININT1
            b'M' => {
                let n = self.array()?;
                self.push(Node::Int(i64::from(u16::from_le_bytes(n))));
            } // BININT2
            b'J' => {
                let n = self.array()?;
                self.push(Node::Int(i64::from(i32::from_le_bytes(n))));
            } // BININT
            0x8a => self.long()?, // LONG1
            b'G' => {
                let n = self.array()?;
                self.push(Node::Float(f64::from_be_bytes(n)));
            } // BINFLOAT
            0x8c => {
                let n = self.byte()?;
                self.text(u64::from(n))?;
            } // SHORT_BINUNICODE
            b'X' => {
                let n = self.array()?;
                self.text(u64::from(u32::from_le_bytes(n)))?;
            } // BINUNICODE
            0x8d => {
                let n = self.array()?;
                self.text(u64::from_le_bytes(n))?;
            } // BINUNICODE8
            b'q' => {
                let n = self.byte()?;
                self.remember(u32::from(n))?;
            } // BINPUT
            b'r' => {
                let n = self.array()?;
                self.remember(u32::from_le_bytes(n))?;
            } // LONG_BINPUT
            0x94 => self.remember(self.memo.len() as u32)?, // MEMOIZE
            b'h' => {
                let n = self.byte()?;
                self.recall(u32::from(n))?;
            } // BINGET
            b'j' => {
                let n = self.array()?;
                self.recall(u32::from_le_bytes(n))?;
            } // LONG_BINGET
            b'c' => {
                // GLOBAL
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Global(global(&module, &name)?));
            }
            0x93 => self.stack_global()?, // STACK_GLOBAL
            b'Q' => self.storage()?,      // BINPERSID
            b'R' => self.call()?,         // REDUCE
            b'b' => self.state()?,        // BUILD
            b's' => {
                // SETITEM
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(&items)?;
            } // SETITEMS
            b'a' => drop(self.pop()?), // APPEND: lists are passed over
            b'e' => drop(self.since_mark()?), // APPENDS
            other => {
                return Err(format!(
                    "opcode 0x{other:02x} at byte {at} is not one that a dictionary of tensors needs; nothing was run"
                ));
            }
        }
        Ok(())
    }

    fn long(&mut self) -> Result<(), String> {
        let length = usize::from(self.byte()?);
        if length > 8 {
            return Err("a whole number beyond 64 bits".into());
        }
        let bytes = self.take(length)?;
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) {
            0xff
        } else {
            0
        };
        let mut all = [fill; 8];
        all[..length].copy_from_slice(bytes);
        self.push(Node::Int(i64::from_le_bytes(all)));
        Ok(())
    }

    fn stack_global(&mut self) -> Result<(), String> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (&self.arena[module], &self.arena[name]) {
            (Node::Text(module), Node::Text(name)) => {
                let found = global(module, name)?;
                self.push(Node::Global(found));
                Ok(())
            }
            _ => Err("a name that is not a text".into()),
        }
    }

    fn items_of(&self, id: Id) -> &[Id] {
        match &self.arena[id] {
            Node::Tuple(items) => items,
            _ => &[],
        }
    }

    /// `("storage", class, key, device, elements)`.
    fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let node = match self.items_of(id) {
            &[tag, class, key, _, length] => {
                match (
                    &self.arena[tag],
                    &self.arena[class],
                    &self.arena[key],
                    &self.arena[length],
                ) {
                    (
                        Node::Text(tag),
                        Node::Global(Global::Storage(dtype)),
                        Node::Text(key),
                        Node::Int(length),
                    ) if tag == "storage" => {
                        let length =
                            usize::try_from(*length).map_err(|_| "a storage of negative length")?;
                        Some(Node::Storage(*dtype, key.clone(), length))
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        self.push(node.ok_or("a reference to something other than a storage")?);
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Node::Global(callee) = self.arena[callee] else {
            return Err("a call of something that is no function".into());
        };
        let node = match callee {
            Global::OrderedDict => Node::Dict(Vec::new()),
            Global::RebuildTensor => Node::Tensor(self.view(arguments)?),
            Global::RebuildParameter => {
                let first = self
                    .items_of(arguments)
                    .first()
                    .map(|&id| self.arena[id].clone());
                match first {
                    Some(Node::Tensor(view)) => Node::Tensor(view),
                    _ => return Err("a parameter that is no tensor".into()),
                }
            }
            Global::Storage(_) => return Err("a call of a storage class".into()),
        };
        self.push(node);
        Ok(())
    }

    /// `(storage, offset, shape, strides, …)`.
    fn view(&self, arguments: Id) -> Result<View, String> {
        let &[storage, offset, shape, strides, ..] = self.items_of(arguments) else {
            return Err("a tensor without storage, offset, shape and strides".into());
        };
        let Node::Storage(dtype, key, length) = &self.arena[storage] else {
            return Err("a tensor without a storage".into());
        };
        let (shape, strides) = (self.counts(shape)?, self.counts(strides)?);
        if shape.len() != strides.len() || shape.len() > 8 {
            return Err(format!(
                "a tensor of {} axes with {} strides",
                shape.len(),
                strides.len()
            ));
        }
        Ok(View {
            dtype: *dtype,
            key: key.clone(),
            length: *length,
            offset: self.count(offset)?,
            shape,
            strides,
        })
    }

    fn count(&self, id: Id) -> Result<usize, String> {
        match self.arena[id] {
            Node::Int(n) => usize::try_from(n).map_err(|_| "a negative length".into()),
            _ => Err("a length that is no whole number".into()),
        }
    }

    fn counts(&self, id: Id) -> Result<Vec<usize>, String> {
        self.items_of(id).iter().map(|&id| self.count(id)).collect()
    }

    /// State that is set on a dictionary is its `_metadata`, which says nothing about tensors.
    fn state(&mut self) -> Result<(), String> {
        self.pop()?;
        match self.arena[self.top()?] {
            Node::Dict(_) => Ok(()),
            _ => Err("state is set on something that is no dictionary".into()),
        }
    }

    fn set(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        let Node::Dict(entries) = &mut self.arena[top] else {
            return Err("entries are set on something that is no dictionary".into());
        };
        let pairs = items.as_chunks::<2>();
        entries.extend(pairs.0.iter().map(|&[key, value]| (key, value)));
        if pairs.1.is_empty() {
            Ok(())
        } else {
            Err("a key without a value".into())
        }
    }

    fn items(&self, top: Id) -> Result<Vec<(String, Item)>, String> {
        let Node::Dict(entries) = &self.arena[top] else {
            return Err(
                "expected a dictionary of tensors (a state_dict), found another object".into(),
            );
        };
        let mut items = Vec::new();
        for &(key, value) in entries {
            let Node::Text(key) = &self.arena[key] else {
                return Err("a key that is not a text".into());
            };
            match &self.arena[value] {
                Node::Tensor(view) => items.push((key.clone(), Item::Tensor(view.clone()))),
                Node::Int(n) => items.push((key.clone(), Item::Number(*n as f64))),
                Node::Float(x) => items.push((key.clone(), Item::Number(*x))),
                Node::Dict(_) => {
                    return Err(format!(
                        "`{}` is a dictionary in the dictionary; save the state_dict alone",
                        super::tensors::short(key)
                    ));
                }
                _ => {}
            }
        }
        Ok(items)
    }
}

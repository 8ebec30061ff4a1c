//! Decides which exact packages a machine is made of, or explains why none fit.

#!/usr/bin/env node
/** The program `exitlm` of the package. */
import './client/cli.mjs';

// Empty: see ../README.md.
#pragma once
